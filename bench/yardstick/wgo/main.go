// Command wgo runs one wireguard-go device for the benchmark: a tunnel to a single
// peer, configured from the environment, in the network namespace it was started
// in. It is a yardstick, never part of the product.
//
// Environment: WGO_IF, WGO_PORT, WGO_KEY and WGO_PEER (hex), WGO_ENDPOINT
// (address:port), WGO_ALLOWED (prefix), WGO_MTU. It prints "up" when the device
// runs and ends on SIGTERM.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "wgo:", err)
		os.Exit(1)
	}
}

func run() error {
	mtu, err := strconv.Atoi(os.Getenv("WGO_MTU"))
	if err != nil {
		return fmt.Errorf("WGO_MTU: %w", err)
	}
	t, err := tun.CreateTUN(os.Getenv("WGO_IF"), mtu)
	if err != nil {
		return fmt.Errorf("tun: %w", err)
	}
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, "wgo: "))
	defer d.Close()
	err = d.IpcSet(fmt.Sprintf("private_key=%s\nlisten_port=%s\npublic_key=%s\nendpoint=%s\nallowed_ip=%s\n",
		os.Getenv("WGO_KEY"), os.Getenv("WGO_PORT"), os.Getenv("WGO_PEER"), os.Getenv("WGO_ENDPOINT"), os.Getenv("WGO_ALLOWED")))
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	if err := d.Up(); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	fmt.Println("up")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	return nil
}
