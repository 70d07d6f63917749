//go:build !race

package coop

// modelSeeds is how many worlds TestModel lives through unless it is told otherwise:
// `make model` asks for 10,000.
const (
	modelSeeds   = 200
	raceDetector = false
)
