// asynq, unmodified: jobs with retries, delays, priorities and uniqueness; nothing lost, nothing run twice.
package apps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

type notes struct {
	sync.Mutex
	runs  map[string]int
	order []string
}

func (n *notes) note(id string) int {
	n.Lock()
	defer n.Unlock()
	n.runs[id]++
	n.order = append(n.order, id)
	return n.runs[id]
}

func (n *notes) count() int {
	n.Lock()
	defer n.Unlock()
	return len(n.runs)
}

func address() asynq.RedisClientOpt {
	port := os.Getenv("MERIDIAN_PORT")
	if port == "" {
		port = "6379"
	}
	return asynq.RedisClientOpt{Addr: "127.0.0.1:" + port, DB: 9}
}

func serve(t *testing.T, config asynq.Config, handle asynq.HandlerFunc) {
	config.LogLevel = asynq.ErrorLevel
	config.DelayedTaskCheckInterval = 200 * time.Millisecond
	server := asynq.NewServer(address(), config)
	if err := server.Start(handle); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 600 {
		if done() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

func TestJobs(t *testing.T) {
	queue := fmt.Sprintf("q%d", time.Now().UnixNano())
	seen := &notes{runs: map[string]int{}}
	serve(t, asynq.Config{
		Concurrency:    8,
		Queues:         map[string]int{queue: 1},
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return 100 * time.Millisecond },
	}, func(_ context.Context, task *asynq.Task) error {
		runs := seen.note(string(task.Payload()))
		if task.Type() == "flaky" && runs < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	client := asynq.NewClient(address())
	defer client.Close()
	for n := range 200 {
		task := asynq.NewTask("job", []byte(fmt.Sprint(n)))
		if _, err := client.Enqueue(task, asynq.Queue(queue)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 10 {
		task := asynq.NewTask("flaky", []byte(fmt.Sprint("flaky", n)))
		if _, err := client.Enqueue(task, asynq.Queue(queue), asynq.MaxRetry(5)); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	late := asynq.NewTask("job", []byte("late"))
	if _, err := client.Enqueue(late, asynq.Queue(queue), asynq.ProcessIn(time.Second)); err != nil {
		t.Fatal(err)
	}
	once := asynq.NewTask("job", []byte("once"))
	if _, err := client.Enqueue(once, asynq.Queue(queue), asynq.ProcessIn(time.Minute), asynq.Unique(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Enqueue(once, asynq.Queue(queue), asynq.Unique(time.Hour)); !errors.Is(err, asynq.ErrDuplicateTask) {
		t.Fatal("a duplicate was taken", err)
	}
	eventually(t, "all jobs", func() bool {
		seen.Lock()
		defer seen.Unlock()
		for n := range 10 {
			if seen.runs[fmt.Sprint("flaky", n)] < 3 {
				return false
			}
		}
		return len(seen.runs) == 211
	})
	if time.Since(begun) < time.Second {
		t.Fatal("a delayed job came early")
	}
	inspector := asynq.NewInspector(address())
	defer inspector.Close()
	eventually(t, "an idle queue", func() bool {
		info, err := inspector.GetQueueInfo(queue)
		return err == nil && info.Active == 0 && info.Pending == 0 && info.Retry == 0 && info.Scheduled == 1 && info.Processed == 231
	})
	for id, runs := range seen.runs {
		want := 1
		if len(id) > 5 && id[:5] == "flaky" {
			want = 3
		}
		if runs != want {
			t.Fatal(id, runs)
		}
	}
}

func TestPriorities(t *testing.T) {
	tag := fmt.Sprint(time.Now().UnixNano())
	client := asynq.NewClient(address())
	defer client.Close()
	for n := range 5 {
		for _, queue := range []string{"low", "high"} {
			task := asynq.NewTask("job", []byte(fmt.Sprint(queue, n)))
			if _, err := client.Enqueue(task, asynq.Queue(queue+tag)); err != nil {
				t.Fatal(err)
			}
		}
	}
	seen := &notes{runs: map[string]int{}}
	serve(t, asynq.Config{
		Concurrency:    1,
		StrictPriority: true,
		Queues:         map[string]int{"high" + tag: 2, "low" + tag: 1},
	}, func(_ context.Context, task *asynq.Task) error {
		seen.note(string(task.Payload()))
		return nil
	})
	eventually(t, "ten jobs", func() bool { return seen.count() == 10 })
	for n, id := range seen.order {
		if want := []string{"high", "low"}[n/5]; id[:len(want)] != want {
			t.Fatal(seen.order)
		}
	}
}
