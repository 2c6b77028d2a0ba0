//go:build linux && cgo

package libct_test

func victim() int { return 0 }
