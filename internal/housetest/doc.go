// Package housetest holds the rules of the house as tests: which room may import
// which, and what every source file owes its readers. It has no code of its own
// for others to call.
package housetest
