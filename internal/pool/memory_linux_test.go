package pool

import "testing"

func TestRoom(t *testing.T) {
	m, ok := memory()
	free := m.available
	if !ok || free < 1<<20 || m.total < free {
		t.Fatalf("%+v, %v", m, ok)
	}
	if Room(1 << 40 / each) {
		t.Error("there is room for a terabyte of idle sandboxes")
	}
	if free > 2*share*each && !Room(0) {
		t.Errorf("no room for one with %d MiB available", free>>20)
	}
}

func TestOnPressureEnds(t *testing.T) {
	for range 3 {
		OnPressure(func() {})()
	}
}
