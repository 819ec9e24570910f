// Package clients drives a server with go-redis as programs do, with its defaults.
//
// MERIDIAN_HOST (127.0.0.1), MERIDIAN_PORT (6379): a server as plain clients see it.
// MERIDIAN_CLUSTER_PORT: any port of a server in cluster mode; without it that half is skipped.
package clients

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	ctx    = context.Background()
	serial atomic.Int64
)

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func address() string {
	return env("MERIDIAN_HOST", "127.0.0.1") + ":" + env("MERIDIAN_PORT", "6379")
}

func plain(t *testing.T, protocol int) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: address(), Protocol: protocol, ReadTimeout: time.Minute})
	t.Cleanup(func() { client.Close() })
	return client
}

func cluster(t *testing.T, protocol int) *redis.ClusterClient {
	t.Helper()
	port := os.Getenv("MERIDIAN_CLUSTER_PORT")
	if port == "" {
		t.Skip("no MERIDIAN_CLUSTER_PORT")
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:    []string{env("MERIDIAN_HOST", "127.0.0.1") + ":" + port},
		Protocol: protocol, ReadTimeout: time.Minute,
	})
	t.Cleanup(func() { client.Close() })
	return client
}

// keys makes key names of one test: in one slot for a cluster, all over the slots otherwise.
type keys func(name string) string

// each runs a test with plain and cluster clients, in both protocols.
func each(t *testing.T, test func(t *testing.T, r redis.UniversalClient, k keys)) {
	for _, protocol := range []int{2, 3} {
		tag := fmt.Sprintf("go%d:%d", time.Now().UnixNano(), serial.Add(1))
		t.Run(fmt.Sprintf("plain-resp%d", protocol), func(t *testing.T) {
			test(t, plain(t, protocol), func(name string) string { return tag + ":" + name })
		})
		t.Run(fmt.Sprintf("cluster-resp%d", protocol), func(t *testing.T) {
			test(t, cluster(t, protocol), func(name string) string { return "{" + tag + "}:" + name })
		})
	}
}

// eachPlain runs a test with plain clients, in both protocols.
func eachPlain(t *testing.T, test func(t *testing.T, r *redis.Client, k keys)) {
	for _, protocol := range []int{2, 3} {
		tag := fmt.Sprintf("go%d:%d", time.Now().UnixNano(), serial.Add(1))
		t.Run(fmt.Sprintf("resp%d", protocol), func(t *testing.T) {
			test(t, plain(t, protocol), func(name string) string { return tag + ":" + name })
		})
	}
}

// want fails the test unless the command succeeded with this result.
func want[T any](t *testing.T, expected T, command interface{ Result() (T, error) }) {
	t.Helper()
	result, err := command.Result()
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	if fmt.Sprintf("%#v", result) != fmt.Sprintf("%#v", expected) {
		t.Fatalf("%v: want %#v", command, expected)
	}
}

// absent fails the test unless the command answered nil.
func absent(t *testing.T, command interface{ Err() error }) {
	t.Helper()
	if command.Err() != redis.Nil {
		t.Fatalf("%v: want nil", command)
	}
}

// refused fails the test unless the command was refused with this text in it.
func refused(t *testing.T, text string, command interface{ Err() error }) {
	t.Helper()
	if err := command.Err(); err == nil || err == redis.Nil || !contains(err.Error(), text) {
		t.Fatalf("%v: want a refusal with %q", command, text)
	}
}

// works fails the test unless the command succeeded.
func works(t *testing.T, command interface{ Err() error }) {
	t.Helper()
	if err := command.Err(); err != nil {
		t.Fatalf("%v: %v", command, err)
	}
}
