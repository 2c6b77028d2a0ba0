// Package stage0 is pid 1 of every sandbox, in C, and how a launcher speaks with it. It is the only cgo of ours.
package stage0
