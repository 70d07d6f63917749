// Package guest boots Debian's own kernel (6.1 in Debian 12) under qemu, as a
// foreign IPsec peer and as the older kernel that the product must also run on.
//
// An image is that kernel and a small initramfs: busybox, ip, the modules that IPsec
// and traffic control need, and programs that a test adds.
package guest

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kernelPackage depends on the current kernel image of the release.
const kernelPackage = "linux-image-cloud-amd64"

// modules that the guest loads, with all that they depend on.
var modules = []string{
	"virtio_net", "virtio_pci", "af_packet", "tun", "veth",
	"esp4", "esp6", "xfrm_user", "seqiv", "echainiv", "gcm", "ctr", "authenc",
	"ghash_generic", "des_generic", "sha512_generic", "crypto_null", "rng", "drbg",
	"sch_ingress", "cls_bpf", "act_gact", "act_mirred", "nf_tables",
}

// Image is a bootable kernel and initramfs.
type Image struct {
	Kernel, Initrd string
	Version        string // of the kernel
}

// initScript is the guest's first process: it loads the modules, waits for the network
// device and lets a shell read the serial line as its script. busybox's interactive
// shell won't do: it may take the end of a background job, while it waits for a line,
// for the end of its input. The kernel's messages have a line of their own (console=).
const initScript = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/sbin:/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
mkdir -p /dev/net /run /tmp
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
while read -r m; do insmod "$m"; done < /etc/modules
ip link set lo up
n=0
while [ ! -e /sys/class/net/eth0 ] && [ $n -lt 200 ]; do n=$((n+1)); usleep 25000; done
ip link set eth0 up
for f in all eth0; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done
exec > /dev/ttyS0 2>&1
stty -F /dev/ttyS0 raw -echo
echo guest-is-up
sh /dev/ttyS0 < /dev/null
echo "the shell on ttyS0 ended with status $?" > /dev/console
poweroff -f
`

// Build makes an image in dir with the given static programs in its /bin. The
// kernel package is fetched with apt once for each dir. Needs root's tools: apt-get,
// dpkg-deb, depmod, modprobe, cpio, busybox (static), ip.
func Build(dir string, programs ...string) (*Image, error) {
	tree := filepath.Join(dir, "kernel")
	if _, err := os.Stat(tree); errors.Is(err, os.ErrNotExist) {
		if err := fetchKernel(dir, tree); err != nil {
			return nil, err
		}
	}
	vers, err := filepath.Glob(filepath.Join(tree, "lib/modules/*"))
	if err != nil || len(vers) != 1 {
		return nil, fmt.Errorf("guest: modules in %s: %v %w", tree, vers, err)
	}
	ver := filepath.Base(vers[0])
	root, err := os.MkdirTemp(dir, "root")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(root)
	if err := fill(root, tree, ver, programs); err != nil {
		return nil, err
	}
	img := &Image{Kernel: filepath.Join(tree, "boot/vmlinuz-"+ver), Initrd: root + ".gz", Version: ver}
	return img, pack(root, img.Initrd)
}

func run(dir, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Dir = dir
	out, err := c.Output()
	if err != nil {
		var x *exec.ExitError
		if errors.As(err, &x) {
			err = fmt.Errorf("%w: %s", err, x.Stderr)
		}
		return "", fmt.Errorf("guest: %s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}

func fetchKernel(dir, tree string) error {
	deps, err := run(dir, "apt-cache", "depends", kernelPackage)
	if err != nil {
		return err
	}
	_, pkg, ok := strings.Cut(deps, "Depends: ")
	if !ok {
		return fmt.Errorf("guest: apt knows no %s", kernelPackage)
	}
	pkg, _, _ = strings.Cut(pkg, "\n")
	if _, err := run(dir, "apt-get", "-qq", "download", strings.TrimSpace(pkg)); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "linux-image-*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("guest: downloaded %v %w", debs, err)
	}
	if _, err := run(dir, "dpkg-deb", "-x", debs[0], tree+".part"); err != nil {
		return err
	}
	if err := os.Remove(debs[0]); err != nil {
		return err
	}
	return os.Rename(tree+".part", tree)
}

// fill lays out the root file system.
func fill(root, tree, ver string, programs []string) error {
	for _, d := range []string{"bin", "sbin", "dev", "proc", "sys", "tmp", "run", "etc", "modules"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("guest: %w (package busybox-static)", err)
	}
	ip, err := exec.LookPath("ip")
	if err != nil {
		return fmt.Errorf("guest: %w (package iproute2)", err)
	}
	files := map[string]string{"bin/busybox": busybox, "sbin/ip": ip}
	libs, err := run(root, "ldd", ip)
	if err != nil {
		return err
	}
	for _, w := range strings.Fields(libs) {
		if strings.HasPrefix(w, "/") {
			files[strings.TrimPrefix(w, "/")] = w
		}
	}
	for _, p := range programs {
		files["bin/"+filepath.Base(p)] = p
	}
	var list strings.Builder
	if _, err := run(root, "depmod", "-b", tree, ver); err != nil {
		return err
	}
	for _, m := range modules {
		deps, err := run(root, "modprobe", "-d", tree, "-S", ver, "--show-depends", m)
		if err != nil {
			return err
		}
		for _, line := range strings.Split(deps, "\n") {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] != "insmod" {
				continue // built in
			}
			dst := "modules/" + filepath.Base(f[1])
			if files[dst] == "" {
				files[dst] = f[1]
				fmt.Fprintln(&list, "/"+dst)
			}
		}
	}
	for dst, src := range files {
		if err := copyFile(filepath.Join(root, dst), src); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/modules"), []byte(list.String()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "init"), []byte(initScript), 0o755)
}

func copyFile(dst, src string) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// pack writes root as a compressed cpio archive.
func pack(root, file string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	c := exec.Command("sh", "-c", "find . | cpio -o -H newc --quiet")
	c.Dir, c.Stdout, c.Stderr = root, z, os.Stderr
	return errors.Join(c.Run(), z.Close(), out.Close())
}
