//go:build !linux

package sandbox

type observer struct{}

func observe(int) observer       { return observer{} }
func (observer) succeeded() bool { return false }
func (observer) close()          {}
