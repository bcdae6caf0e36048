// Checks a tlog-tiles folder with Go's checksum-database library: the log's signature, every entry, and old checkpoints.
//
//	go run checklog.go -dir ledger -vkey ledger/log.vkey [old checkpoint ...]
//
// Hashing, signatures and proofs are golang.org/x/mod/sumdb's; only the names of files and the frame of a bundle are ours.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// read opens a note and returns the size and root that it signs.
func read(path string, key note.Verifier) (int64, tlog.Hash) {
	text, err := os.ReadFile(path)
	check(err)
	signed, err := note.Open(text, note.VerifierList(key))
	check(err)
	lines := strings.Split(signed.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check(err)
	var hash tlog.Hash
	copy(hash[:], root)
	return size, hash
}

// bundle names the file with entry n of a log of so many, as tlog-tiles says: groups of three digits.
func bundle(dir string, number, size int64) string {
	name := fmt.Sprintf("%03d", number%1000)
	for number /= 1000; number > 0; number /= 1000 {
		name = fmt.Sprintf("x%03d/%s", number%1000, name)
	}
	name = filepath.Join(dir, "tile/entries", name)
	if _, err := os.Stat(name); err == nil {
		return name
	}
	return fmt.Sprintf("%s.p/%d", name, size%256)
}

func main() {
	dir := flag.String("dir", "ledger", "the log's folder")
	vkey := flag.String("vkey", "", "file with the log's verifier key")
	flag.Parse()
	text, err := os.ReadFile(*vkey)
	check(err)
	key, err := note.NewVerifier(strings.TrimSpace(string(text)))
	check(err)
	size, root := read(filepath.Join(*dir, "checkpoint"), key)

	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(wanted []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(wanted))
		for i, at := range wanted {
			found[i] = hashes[at]
		}
		return found, nil
	})
	for n := int64(0); n < size; {
		bytes, err := os.ReadFile(bundle(*dir, n/256, size))
		check(err)
		for ; len(bytes) > 0; n++ {
			length := 2 + int(binary.BigEndian.Uint16(bytes))
			stored, err := tlog.StoredHashes(n, bytes[2:length], reader)
			check(err)
			hashes = append(hashes, stored...)
			bytes = bytes[length:]
		}
	}
	computed, err := tlog.TreeHash(size, reader)
	check(err)
	if computed != root {
		log.Fatalf("the entries hash to %v, the checkpoint says %v", computed, root)
	}
	fmt.Printf("%d entries, root %v: the log's key has signed them\n", size, root)

	for _, path := range flag.Args() {
		oldSize, oldRoot := read(path, key)
		if oldSize == 0 {
			continue
		}
		proof, err := tlog.ProveTree(size, oldSize, reader)
		check(err)
		if err := tlog.CheckTree(proof, size, root, oldSize, oldRoot); err != nil {
			log.Fatalf("%s: TWO HISTORIES at size %d: %v", path, oldSize, err)
		}
		fmt.Printf("%s: the log continues it\n", path)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
