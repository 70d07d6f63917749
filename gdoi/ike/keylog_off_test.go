//go:build !keylog

package ike

const keylogBuilt = false
