//go:build race

package coop

// modelSeeds under the race detector: the machine has no goroutines, a few worlds do.
const (
	modelSeeds   = 20
	raceDetector = true
)
