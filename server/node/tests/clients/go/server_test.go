package clients

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func TestServer(t *testing.T) {
	eachPlain(t, func(t *testing.T, r *redis.Client, k keys) {
		want(t, "PONG", r.Ping(ctx))
		want(t, "hello", r.Echo(ctx, "hello"))
		works(t, r.Set(ctx, k("x"), 1, 0))
		info, err := r.Info(ctx, "everything").Result()
		if err != nil || !contains(info, "redis_version:7.") || !contains(info, "# Keyspace") {
			t.Fatal(info, err)
		}
		want(t, map[string]string{"maxmemory": "0"}, r.ConfigGet(ctx, "maxmemory"))
		want(t, "OK", r.ConfigSet(ctx, "set-max-intset-entries", "512"))
		works(t, r.ConfigResetStat(ctx))
		commands, err := r.Command(ctx).Result()
		if err != nil || commands["get"] == nil || !commands["get"].ReadOnly || len(commands) < 100 {
			t.Fatal(len(commands), err)
		}
		want(t, []string{"a", "b"}, r.CommandGetKeys(ctx, "mset", "a", "1", "b", "2"))
		works(t, r.ClientID(ctx))
		works(t, r.ClientList(ctx))
		works(t, r.ClientInfo(ctx))
		works(t, r.Time(ctx))
		works(t, r.DBSize(ctx))
		refused(t, "unknown command", r.Do(ctx, "NOSUCH"))
	})
}

func TestScan(t *testing.T) {
	eachPlain(t, func(t *testing.T, r *redis.Client, k keys) {
		pipe := r.Pipeline()
		for i := range 500 {
			pipe.Set(ctx, k(fmt.Sprint(i)), i, 0)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		scan := r.Scan(ctx, 0, k("*"), 50).Iterator()
		for scan.Next(ctx) {
			seen[scan.Val()] = true
		}
		if scan.Err() != nil || len(seen) != 500 {
			t.Fatal(len(seen), scan.Err())
		}
	})
}

func TestTransactionOverManySlots(t *testing.T) {
	eachPlain(t, func(t *testing.T, r *redis.Client, k keys) {
		replies, err := r.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			for i := range 100 {
				pipe.Incr(ctx, k(fmt.Sprint(i)))
			}
			return nil
		})
		if err != nil || len(replies) != 100 {
			t.Fatal(len(replies), err)
		}
	})
}

// Several clients move two counters in different slots together, optimistically.
func TestWatchLosesNoIncrement(t *testing.T) {
	eachPlain(t, func(t *testing.T, r *redis.Client, k keys) {
		const workers, times = 4, 100
		step := func(tx *redis.Tx) error {
			values, err := tx.MGet(ctx, k("a"), k("b")).Result()
			if err != nil {
				return err
			}
			var left, right int
			if values[0] != nil {
				fmt.Sscan(values[0].(string), &left)
				fmt.Sscan(values[1].(string), &right)
			}
			if left != -right {
				return fmt.Errorf("half of a transaction is seen: %d and %d", left, right)
			}
			_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
				pipe.Set(ctx, k("a"), left+1, 0)
				pipe.Set(ctx, k("b"), right-1, 0)
				return nil
			})
			return err
		}
		faults := make(chan error, workers)
		var group sync.WaitGroup
		for range workers {
			group.Go(func() {
				for done := 0; done < times; {
					switch err := r.Watch(ctx, step, k("a"), k("b")); {
					case err == nil:
						done++
					case !errors.Is(err, redis.TxFailedErr):
						faults <- err
						return
					}
				}
			})
		}
		group.Wait()
		close(faults)
		for err := range faults {
			t.Fatal(err)
		}
		want(t, []any{fmt.Sprint(workers * times), fmt.Sprint(-workers * times)}, r.MGet(ctx, k("a"), k("b")))
	})
}

func TestLongPipelines(t *testing.T) {
	each(t, func(t *testing.T, r redis.UniversalClient, k keys) {
		pipe := r.Pipeline()
		for i := range 5000 {
			pipe.Set(ctx, k(fmt.Sprint(i)), i, 0)
			pipe.Get(ctx, k(fmt.Sprint(i)))
		}
		replies, err := pipe.Exec(ctx)
		if err != nil || len(replies) != 10_000 {
			t.Fatal(len(replies), err)
		}
		for i := range 5000 {
			want(t, fmt.Sprint(i), replies[2*i+1].(*redis.StringCmd))
		}
	})
}

func TestTenMegabytes(t *testing.T) {
	each(t, func(t *testing.T, r redis.UniversalClient, k keys) {
		value := bytes.Repeat([]byte("0123456789\r\n\x00\xff"), 10<<20/14)
		works(t, r.Set(ctx, k("big"), value, 0))
		got, err := r.Get(ctx, k("big")).Bytes()
		if err != nil || !bytes.Equal(got, value) {
			t.Fatal(len(got), err)
		}
		want(t, int64(1), r.Del(ctx, k("big")))
	})
}

func TestPool(t *testing.T) {
	eachPlain(t, func(t *testing.T, r *redis.Client, k keys) {
		var group sync.WaitGroup
		faults := make(chan error, 64)
		for worker := range 64 {
			group.Go(func() {
				for i := range 100 {
					key := k(fmt.Sprint(worker, ":", i))
					r.Set(ctx, key, i, 0)
					if got, err := r.Get(ctx, key).Int(); err != nil || got != i {
						faults <- fmt.Errorf("%s: %d, %v", key, got, err)
						return
					}
				}
			})
		}
		group.Wait()
		close(faults)
		for err := range faults {
			t.Fatal(err)
		}
	})
}

func TestClusterTopology(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		r := cluster(t, protocol)
		slots, err := r.ClusterSlots(ctx).Result()
		covered := 0
		for _, slot := range slots {
			covered += slot.End - slot.Start + 1
		}
		if err != nil || covered != 16384 {
			t.Fatal(slots, err)
		}
		shards, err := r.ClusterShards(ctx).Result()
		if err != nil || len(shards) == 0 {
			t.Fatal(shards, err)
		}
		want(t, int64(12182), r.ClusterKeySlot(ctx, "foo"))
		want(t, "PONG", r.Ping(ctx))
	}
}

func TestClusterSpreadsKeysWithoutTags(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		r := cluster(t, protocol)
		prefix := fmt.Sprint("spread", os.Getpid(), ":", protocol, ":")
		pipe := r.Pipeline()
		for i := range 1000 {
			pipe.Set(ctx, fmt.Sprint(prefix, i), i, 0)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			want(t, fmt.Sprint(i), r.Get(ctx, fmt.Sprint(prefix, i)))
		}
		want(t, int64(1), r.Del(ctx, fmt.Sprint(prefix, 0)))
	}
}

func TestClusterTransaction(t *testing.T) {
	each(t, func(t *testing.T, r redis.UniversalClient, k keys) {
		replies, err := r.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, k("a"), 1, 0)
			pipe.Incr(ctx, k("a"))
			return nil
		})
		if err != nil || len(replies) != 2 {
			t.Fatal(replies, err)
		}
		want(t, "2", r.Get(ctx, k("a")))
	})
}

// Each mode asks for notices of maintenance when it connects; "enabled" fails where the server does not take it.
func TestMaintenanceNotifications(t *testing.T) {
	for _, mode := range []maintnotifications.Mode{maintnotifications.ModeEnabled, maintnotifications.ModeAuto} {
		client := redis.NewClient(&redis.Options{
			Addr: address(), Protocol: 3,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: mode},
		})
		if err := client.Set(ctx, "maintenance", "1", time.Minute).Err(); err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		stats := client.Info(ctx, "commandstats").Val()
		if !strings.Contains(stats, "cmdstat_client|maint_notifications:calls=") {
			t.Fatalf("%s did not ask: %s", mode, stats)
		}
		client.Close()
	}
}
