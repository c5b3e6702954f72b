// Follow one route table with go-redis: go run . redis://127.0.0.1:6379/0 default/payments
//
// Prints the table as a JSON line whenever it, or whether it is stale, changes. The stream only wakes us up; what
// counts is the table itself, read whole and in one MULTI, at each change and at least once a second.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

type endpoint struct {
	Address string `json:"address"`
	Port    int    `json:"port"`
	Weight  int    `json:"weight"`
}

type table struct {
	generation string
	revision   int64
	endpoints  map[string]endpoint
}

// read returns what the store has at one moment, and how many endpoints it says there are.
func read(ctx context.Context, client *redis.Client, service string) (table, int64, error) {
	var generation *redis.StringCmd
	var route *redis.MapStringStringCmd
	var meta *redis.SliceCmd
	_, err := client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		generation = pipe.Get(ctx, "waypost:v1:generation")
		route = pipe.HGetAll(ctx, "waypost:v1:{"+service+"}:route")
		meta = pipe.HMGet(ctx, "waypost:v1:{"+service+"}:meta", "revision", "endpoints")
		return nil
	})
	if err != nil && err != redis.Nil { // Nil: there is no generation
		return table{}, 0, err
	}
	found := table{generation: generation.Val(), endpoints: map[string]endpoint{}}
	for name, text := range route.Val() {
		var one endpoint
		if err := json.Unmarshal([]byte(text), &one); err != nil {
			return table{}, 0, fmt.Errorf("endpoint %q: %w", name, err)
		}
		found.endpoints[name] = one
	}
	number := func(field any) int64 {
		text, _ := field.(string)
		value, _ := strconv.ParseInt(text, 10, 64) // a missing field counts as 0
		return value
	}
	if len(meta.Val()) != 2 {
		return table{}, 0, fmt.Errorf("meta of %s: %w", service, meta.Err())
	}
	found.revision = number(meta.Val()[0])
	return found, number(meta.Val()[1]), nil
}

// mayReplace tells whether what was read is to be believed: docs/redis.md, rules 6 and 7.
func mayReplace(known, found table, endpoints int64) bool {
	if found.revision == 0 { // no such service: never was, was removed, or the store lost it
		return known.revision == 0 || (found.generation != "" && found.generation == known.generation)
	}
	return found.revision >= known.revision && !(endpoints > 0 && len(found.endpoints) == 0)
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: reader URL NAMESPACE/SERVICE")
		os.Exit(2)
	}
	options, err := redis.ParseURL(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	options.MaxRetries = -1               // we are the retry
	options.ReadTimeout = 2 * time.Second // go-redis adds the time of a blocking command to it
	options.DialTimeout = 2 * time.Second
	client, ctx, service := redis.NewClient(options), context.Background(), os.Args[2]

	known, position, shown := table{endpoints: map[string]endpoint{}}, "$", ""
	for {
		stale := true
		found, endpoints, err := read(ctx, client, service)
		if err == nil && mayReplace(known, found, endpoints) {
			found.revision = max(found.revision, known.revision)
			known, stale = found, false
		} else if err != nil { // away, or not JSON: go on with what we have
			time.Sleep(500 * time.Millisecond)
		}
		if line := show(known, stale); line != shown {
			shown = line
			fmt.Println(line)
		}
		streams, err := client.XRead(ctx, &redis.XReadArgs{
			Streams: []string{"waypost:v1:changes", position}, Block: time.Second,
		}).Result()
		if err == nil {
			entries := streams[0].Messages
			position = entries[len(entries)-1].ID
		} else if err != redis.Nil {
			time.Sleep(500 * time.Millisecond)
		}
	}
}

func show(known table, stale bool) string {
	places := map[string]string{}
	for name, one := range known.endpoints {
		places[name] = net.JoinHostPort(one.Address, strconv.Itoa(one.Port))
	}
	line, _ := json.Marshal(map[string]any{"endpoints": places, "stale": stale})
	return string(line)
}
