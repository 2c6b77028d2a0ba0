//go:build !race

package upstream

// raceDetector makes everything several times slower.
const raceDetector = false
