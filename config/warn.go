package config

// Warnings about a configuration.
func Warnings(file string, c *Config) []Warning { return nil }
