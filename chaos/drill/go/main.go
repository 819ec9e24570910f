// The part of the drill's load that speaks through go-redis: counters in pipelines, transfers by WATCH, a queue, hashes.
// It runs until its standard input ends, judges by its own record, and prints that as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	accounts = 6
	each     = 1000
)

type record struct {
	sync.Mutex
	Acknowledged int            `json:"acknowledged"`
	Violations   []string       `json:"violations"`
	Errors       map[string]int `json:"errors"`
	LongestMs    float64        `json:"longest_ms"`
}

var (
	rec    = record{Violations: []string{}, Errors: map[string]int{}}
	client *redis.Client
	ending = make(chan struct{})
)

func violate(format string, args ...any) {
	rec.Lock()
	defer rec.Unlock()
	rec.Violations = append(rec.Violations, fmt.Sprintf(format, args...))
}

type outcome int

const (
	done outcome = iota
	empty
	refused
	unknown
)

// attempt runs a command: done, done with nothing to tell, refused (nothing was done), or unknown.
func attempt(run func(context.Context) error) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	begin := time.Now()
	err := run(ctx)
	took := float64(time.Since(begin).Microseconds()) / 1000
	rec.Lock()
	defer rec.Unlock()
	if err == nil || errors.Is(err, redis.Nil) || errors.Is(err, redis.TxFailedErr) {
		rec.Acknowledged++
		rec.LongestMs = max(rec.LongestMs, took)
		if err != nil {
			return empty
		}
		return done
	}
	text := err.Error()
	if len(text) > 90 {
		text = text[:90]
	}
	rec.Errors[text]++
	var fromServer redis.Error
	time.Sleep(50 * time.Millisecond)
	if errors.As(err, &fromServer) && !strings.Contains(text, "unknown") {
		return refused
	}
	return unknown
}

func running() bool {
	select {
	case <-ending:
		return false
	default:
		time.Sleep(3 * time.Millisecond)
		return true
	}
}

// counter increments keys of its own, eight in a pipeline: each may be ahead of what was acknowledged by what is unknown.
func counter(name string) {
	const keys = 8
	var value, maybe [keys]int64
	key := func(i int) string { return fmt.Sprintf("go:counter:%s:%d", name, i) }
	check := func(i int, seen, least, most int64) {
		if seen < least || seen > most {
			violate("%s is %d, between %d and %d were expected", key(i), seen, least, most)
		}
	}
	for running() {
		pipe := client.Pipeline()
		var replies [keys]*redis.IntCmd
		for i := range replies {
			replies[i] = pipe.Incr(context.Background(), key(i))
		}
		attempt(func(ctx context.Context) error { _, err := pipe.Exec(ctx); return err })
		for i, reply := range replies {
			seen, err := reply.Result()
			if err != nil {
				maybe[i]++
				continue
			}
			check(i, seen, value[i]+1, value[i]+1+maybe[i])
			value[i], maybe[i] = seen, 0
		}
	}
	for i := range value {
		seen, err := client.Get(context.Background(), key(i)).Int64()
		if err != nil && !errors.Is(err, redis.Nil) {
			violate("%s at the end: %v", key(i), err)
		}
		check(i, seen, value[i], value[i]+maybe[i])
	}
}

func account(i int) string { return fmt.Sprintf("go:account:%d", i) }

// transfer moves amounts by WATCH and MULTI.
func transfer(seed int) {
	for n := seed; running(); n++ {
		one, other := account(n%accounts), account((n*5+1)%accounts)
		if one == other {
			continue
		}
		attempt(func(ctx context.Context) error {
			return client.Watch(ctx, func(tx *redis.Tx) error {
				have, err := tx.Get(ctx, one).Int()
				if err != nil {
					return err
				}
				has, err := tx.Get(ctx, other).Int()
				if err != nil {
					return err
				}
				_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
					pipe.Set(ctx, one, have-3, 0)
					pipe.Set(ctx, other, has+3, 0)
					return nil
				})
				return err
			}, one, other)
		})
	}
}

// auditor reads all accounts at once: their sum never changes.
func auditor() {
	names := make([]string, accounts)
	for i := range names {
		names[i] = account(i)
	}
	for running() {
		var values []any
		how := attempt(func(ctx context.Context) error {
			var err error
			values, err = client.MGet(ctx, names...).Result()
			return err
		})
		if how != done {
			continue
		}
		sum := 0
		for _, value := range values {
			var n int
			text, _ := value.(string)
			fmt.Sscan(text, &n)
			sum += n
		}
		if sum != accounts*each {
			violate("the sum of the accounts is %d: %v", sum, values)
		}
	}
}

// queue puts numbers in by a transaction with a hash that counts them, and takes them out: each comes once, in order.
func queue(name string) {
	key, tally := "go:queue:"+name, "go:tally:"+name
	next, maybe := 0, map[int]bool{}
	expected := []int{}
	for running() {
		next++
		how := attempt(func(ctx context.Context) error {
			_, err := client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
				pipe.RPush(ctx, key, next)
				pipe.HIncrBy(ctx, tally, "put", 1)
				return nil
			})
			return err
		})
		if how == done || how == unknown {
			maybe[next] = how == unknown
			expected = append(expected, next)
		}
		if next%5 != 0 {
			continue
		}
		for len(expected) > 0 {
			var seen int
			how := attempt(func(ctx context.Context) error {
				var err error
				seen, err = client.LPop(ctx, key).Int()
				return err
			})
			if how == refused {
				break
			}
			if how == unknown {
				// It may have taken one: the front may be missing from now on.
				maybe[expected[0]] = true
				continue
			}
			for len(expected) > 0 && maybe[expected[0]] && (how == empty || expected[0] != seen) {
				expected = expected[1:]
			}
			if how == empty {
				if len(expected) > 0 {
					violate("%s is empty, %v was expected", key, expected)
					return
				}
				break
			}
			if len(expected) == 0 || expected[0] != seen {
				violate("%s: %d was taken out, %v was expected", key, seen, expected)
				return
			}
			expected = expected[1:]
		}
	}
}

func main() {
	addr := flag.String("addr", "127.0.0.1:6379", "where the application's server is")
	flag.Parse()
	client = redis.NewClient(&redis.Options{Addr: *addr, MaxRetries: -1, PoolSize: 20, ReadTimeout: 20 * time.Second})
	for i := range accounts {
		if err := client.SetNX(context.Background(), account(i), each, 0).Err(); err != nil {
			violate("cannot begin: %v", err)
		}
	}
	var all sync.WaitGroup
	for _, run := range []func(){
		func() { counter("a") }, func() { counter("b") }, func() { transfer(1) }, func() { transfer(4) }, auditor,
		func() { queue("a") }, func() { queue("b") },
	} {
		all.Go(run)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	close(ending)
	all.Wait()
	_ = json.NewEncoder(os.Stdout).Encode(&rec)
}
