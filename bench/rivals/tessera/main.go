// How many entries a second Tessera's POSIX driver makes durable and publishes, on the same disk as the ledger's bench.
// Prints entries and seconds, from the first Add until the last entry is in a published checkpoint.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	dir := flag.String("dir", "", "an empty folder")
	count := flag.Int("entries", 100000, "entries")
	size := flag.Int("size", 600, "bytes of an entry")
	batch := flag.Uint("batch", 2000, "entries of a batch")
	workers := flag.Int("workers", 4000, "entries under way at once")
	flag.Parse()

	ctx := context.Background()
	secret, _, err := note.GenerateKey(rand.Reader, "bench.example/log")
	if err != nil {
		log.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		log.Fatal(err)
	}
	driver, err := posix.New(ctx, posix.Config{Path: *dir})
	if err != nil {
		log.Fatal(err)
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(time.Second).
		WithBatching(*batch, time.Second).
		WithPushback(uint(*workers) * 4)
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		log.Fatal(err)
	}
	await := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 50*time.Millisecond)
	entries := make([][]byte, *count)
	for i := range entries {
		entries[i] = make([]byte, *size)
		if _, err := rand.Read(entries[i]); err != nil {
			log.Fatal(err)
		}
	}

	began := time.Now()
	next := make(chan []byte)
	var all sync.WaitGroup
	for range *workers {
		all.Add(1)
		go func() {
			defer all.Done()
			for entry := range next {
				for {
					future := appender.Add(ctx, tessera.NewEntry(entry))
					if _, err := future(); errors.Is(err, tessera.ErrPushback) {
						time.Sleep(5 * time.Millisecond)
						continue
					} else if err != nil {
						log.Fatal(err)
					}
					if _, _, err := await.Await(ctx, future); err != nil {
						log.Fatal(err)
					}
					break
				}
			}
		}()
	}
	for _, entry := range entries {
		next <- entry
	}
	close(next)
	all.Wait()
	took := time.Since(began).Seconds()
	if err := shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d %.3f\n", *count, took)
}
