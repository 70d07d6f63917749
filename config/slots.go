package config

// The order of show running-config (blocks between exclamation marks).

const (
	slotService = iota
	slotHostname
	slotLogging
	slotClock
	slotIP
	slotPKI
	slotISAKMP
	slotIPsec
	slotGroups
	slotMaps
	slotInterfaces
	slotRouting
	slotACLs
	slotSNMP
	slotLine
	numSlots
)
