//go:build !race

package coop

// modelSeeds is how many worlds TestModel lives through unless it is told otherwise; .ci/run
// asks for 10,000.
const modelSeeds = 1000
