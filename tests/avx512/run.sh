#!/usr/bin/env bash
# The bits of the exact class with AVX-512, on a processor that has none: Bochs imitates one, instruction by instruction.
#
#     tests/avx512/run.sh [path of the talkoot binary] [folder for the machine's files]
#
# Boots Debian's kernel with nothing but busybox and the binary, runs `talkoot bench bits`, and compares what it prints.
# Takes two minutes. Needs the packages bochs bochsbios vgabios isolinux syslinux-common genisoimage busybox-static cpio
# and linux-image-cloud-amd64, whose kernel it finds in /boot; KERNEL names another.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=${1:-target/release/talkoot}
work=${2:-$(mktemp -d)}
kernel=${KERNEL:-$(find /boot -name 'vmlinuz-*-cloud-amd64' | sort -V | tail -n 1)}
for needed in bochs genisoimage busybox cpio; do
    command -v "$needed" >/dev/null || { echo "$needed is missing; the head of $0 names the packages"; exit 2; }
done
[ -r "$kernel" ] || { echo "no kernel in /boot: install linux-image-cloud-amd64 or set KERNEL"; exit 2; }

# The whole system: a shell, the binary, the libraries that it was linked to.
root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp}
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$binary" "$root/bin/talkoot"
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
    install -D "$library" "$root$library"
done
cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1
/bin/busybox grep -o -m 1 -w avx512f /proc/cpuinfo
/bin/talkoot --threads 1 bench bits --json
/bin/talkoot --threads 1 bench bits --json --no-checkpoint
echo THE END
/bin/busybox poweroff -f
INIT
chmod +x "$root/init"

# A compact disc that boots it. The kernel would switch all vectors off, since the imitated processor's sizes of compacted
# states contradict each other; without those features it does not look.
disc=$work/disc
mkdir -p "$disc/isolinux"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$disc/isolinux/"
cp "$kernel" "$disc/isolinux/kernel"
(cd "$root" && find . | cpio --quiet -o -H newc) >"$disc/isolinux/initrd"
cat >"$disc/isolinux/isolinux.cfg" <<'MENU'
default talkoot
prompt 0
label talkoot
  kernel kernel
  append initrd=initrd console=ttyS0,115200 quiet clearcpuid=xsaves,xsavec,pku tsc=reliable lpj=1000000 mitigations=off
MENU
genisoimage -quiet -o "$work/disc.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot \
    -boot-load-size 4 -boot-info-table "$disc"

cat >"$work/bochsrc" <<MACHINE
cpu: model=corei7_skylake_x, count=1, ips=50000000, reset_on_triple_fault=0
memory: guest=1024, host=1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path="$work/disc.iso", status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev="$work/serial.txt"
display_library: rfb, options="timeout=0"
log: "$work/bochs.log"
panic: action=fatal
MACHINE
echo c >"$work/commands"
: >"$work/serial.txt"
bochs -q -f "$work/bochsrc" -rc "$work/commands" </dev/null >"$work/bochs.out" 2>&1 &
bochs=$!
trap 'kill $bochs 2>/dev/null || true' EXIT
until grep -q "THE END" "$work/serial.txt"; do
    kill -0 $bochs 2>/dev/null || { tail -n 20 "$work/bochs.out"; echo "Bochs ended early: $work/bochs.log"; exit 1; }
    sleep 2
done

grep -e avx512f -e exact "$work/serial.txt"
grep -q avx512f "$work/serial.txt" || { echo "the imitated processor shows no AVX-512"; exit 1; }
[ "$(grep -c '"exact":true' "$work/serial.txt")" -eq 2 ] || { echo "FAILED: other bits"; exit 1; }
echo "ok: the bits of the exact class, computed with AVX-512"
