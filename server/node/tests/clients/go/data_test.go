package clients

import (
	"fmt"
	"math"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

func TestStrings(t *testing.T) {
	each(t, func(t *testing.T, r redis.UniversalClient, k keys) {
		want(t, "OK", r.Set(ctx, k("a"), "1", 0))
		want(t, "1", r.Get(ctx, k("a")))
		absent(t, r.Get(ctx, k("none")))
		want(t, false, r.SetNX(ctx, k("a"), "2", 0))
		absent(t, r.SetArgs(ctx, k("none"), "2", redis.SetArgs{Mode: "XX"}))
		want(t, "1", r.SetArgs(ctx, k("a"), "3", redis.SetArgs{Get: true}))
		want(t, "3", r.GetEx(ctx, k("a"), time.Minute))
		want(t, time.Minute, r.TTL(ctx, k("a")))
		want(t, "3", r.GetDel(ctx, k("a")))
		want(t, "OK", r.MSet(ctx, k("x"), "1", k("y"), "2"))
		want(t, []any{"1", nil, "2"}, r.MGet(ctx, k("x"), k("none"), k("y")))
		want(t, false, r.MSetNX(ctx, k("x"), "1", k("z"), "2"))
		want(t, int64(2), r.Del(ctx, k("x"), k("y"), k("none")))
		want(t, int64(1), r.Incr(ctx, k("n")))
		want(t, int64(-8), r.DecrBy(ctx, k("n"), 9))
		want(t, 2.25, r.IncrByFloat(ctx, k("n"), 10.25))
		refused(t, "not an integer", r.Incr(ctx, k("n")))
		want(t, int64(5), r.Append(ctx, k("s"), "Hello"))
		want(t, int64(8), r.SetRange(ctx, k("s"), 5, "!!!"))
		want(t, "lo!", r.GetRange(ctx, k("s"), 3, 5))
		want(t, int64(8), r.StrLen(ctx, k("s")))
	})
}

func TestBitmaps(t *testing.T) {
	each(t, func(t *testing.T, r redis.UniversalClient, k keys) {
		want(t, int64(0), r.SetBit(ctx, k("b"), 7, 1))
		want(t, int64(1), r.GetBit(ctx, k("b"), 7))
		works(t, r.Set(ctx, k("x"), "\xff\xf0\x00", 0))
		want(t, int64(12), r.BitCount(ctx, k("x"), nil))
		want(t, int64(12), r.BitPos(ctx, k("x"), 0))
		want(t, int64(3), r.BitOpNot(ctx, k("not"), k("x")))
		want(t, "\x00\x0f\xff", r.Get(ctx, k("not")))
		want(t, []int64{0, 255}, r.BitField(ctx, k("f"), "SET", "u8", "0", "250", "OVERFLOW", "SAT", "INCRBY", "u8", "0", "10"))
	})
}

func TestDeadlines(t *testing.T) {
	each(t, func(t *testing.T, r redis.UniversalClient, k keys) {
		works(t, r.Set(ctx, k("a"), "1", time.Hour))
		want(t, time.Hour, r.TTL(ctx, k("a")))
		want(t, false, r.ExpireGT(ctx, k("a"), time.Minute))
		want(t, true, r.ExpireLT(ctx, k("a"), time.Minute))
		at := time.Now().Add(time.Hour).Truncate(time.Second)
		want(t, true, r.ExpireAt(ctx, k("a"), at))
		want(t, time.Duration(at.Unix())*time.Second, r.ExpireTime(ctx, k("a")))
		want(t, true, r.Persist(ctx, k("a")))
		want(t, time.Duration(-1), r.TTL(ctx, k("a")))
		want(t, true, r.PExpire(ctx, k("a"), 30*time.Millisecond))
		time.Sleep(80 * time.Millisecond)
		want(t, int64(0), r.Exists(ctx, k("a")))
	})
}

func TestGenericKeys(t *testing.T) {
	each(t, func(t *testing.T, r redis.UniversalClient, k keys) {
		works(t, r.Set(ctx, k("s"), "v", 0))
		works(t, r.RPush(ctx, k("l"), "3", "1", "2"))
		want(t, "list", r.Type(ctx, k("l")))
		want(t, "OK", r.Rename(ctx, k("s"), k("t")))
		refused(t, "no such key", r.Rename(ctx, k("s"), k("t")))
		want(t, int64(1), r.Copy(ctx, k("t"), k("u"), 0, false))
		want(t, int64(2), r.Touch(ctx, k("t"), k("u")))
		want(t, int64(2), r.Unlink(ctx, k("t"), k("u")))
		want(t, []string{"3", "2"}, r.Sort(ctx, k("l"), &redis.Sort{Order: "DESC", Count: 2}))
		want(t, int64(3), r.SortStore(ctx, k("l"), k("sorted"), &redis.Sort{}))
		want(t, int64(1), r.ObjectRefCount(ctx, k("l")))
		works(t, r.ObjectEncoding(ctx, k("l")))
		works(t, r.MemoryUsage(ctx, k("l")))
		refused(t, "WRONGTYPE", r.Get(ctx, k("l")))
	})
}

func TestLists(t *testing.T) {
	each(t, func(t *testing.T, r redis.UniversalClient, k keys) {
		want(t, int64(3), r.RPush(ctx, k("l"), "a", "b", "c"))
		want(t, int64(4), r.LPush(ctx, k("l"), "z"))
		want(t, []string{"z", "a", "b", "c"}, r.LRange(ctx, k("l"), 0, -1))
		want(t, int64(5), r.LInsertBefore(ctx, k("l"), "b", "x"))
		want(t, "x", r.LIndex(ctx, k("l"), 2))
		want(t, "OK", r.LSet(ctx, k("l"), 2, "y"))
		want(t, int64(1), r.LRem(ctx, k("l"), 0, "y"))
		want(t, int64(2), r.LPos(ctx, k("l"), "b", redis.LPosArgs{}))
		want(t, "OK", r.LTrim(ctx, k("l"), 1, -1))
		want(t, "c", r.LMove(ctx, k("l"), k("m"), "RIGHT", "LEFT"))
		want(t, []string{"a", "b"}, r.LPopCount(ctx, k("l"), 9))
		absent(t, r.RPop(ctx, k("l")))
		name, popped, err := r.LMPop(ctx, "LEFT", 5, k("none"), k("m")).Result()
		if err != nil || name != k("m") || len(popped) != 1 {
			t.Fatal(name, popped, err)
		}
	})
}

func TestHashes(t *testing.T) {
	each(t, func(t *testing.T, r redis.UniversalClient, k keys) {
		want(t, int64(2), r.HSet(ctx, k("h"), "f", "1", "g", "two"))
		want(t, false, r.HSetNX(ctx, k("h"), "f", "9"))
		want(t, "two", r.HGet(ctx, k("h"), "g"))
		absent(t, r.HGet(ctx, k("h"), "none"))
		want(t, []any{"1", nil}, r.HMGet(ctx, k("h"), "f", "none"))
		want(t, map[string]string{"f": "1", "g": "two"}, r.HGetAll(ctx, k("h")))
		want(t, int64(5), r.HIncrBy(ctx, k("h"), "f", 4))
		want(t, 5.5, r.HIncrByFloat(ctx, k("h"), "f", 0.5))
		want(t, int64(2), r.HLen(ctx, k("h")))
		want(t, true, r.HExists(ctx, k("h"), "g"))
		want(t, int64(1), r.HDel(ctx, k("h"), "g", "none"))
		want(t, []string{"f"}, r.HKeys(ctx, k("h")))
		fields := map[string]any{}
		for i := range 1000 {
			fields[fmt.Sprint("f", i)] = i
		}
		works(t, r.HSet(ctx, k("big"), fields))
		seen := map[string]bool{}
		scan := r.HScan(ctx, k("big"), 0, "f*", 100).Iterator()
		for i := 0; scan.Next(ctx); i++ {
			if i%2 == 0 {
				seen[scan.Val()] = true
			}
		}
		if scan.Err() != nil || len(seen) != 1000 {
			t.Fatal(len(seen), scan.Err())
		}
		works(t, r.HRandFieldWithValues(ctx, k("big"), 5))
	})
}

func TestSets(t *testing.T) {
	each(t, func(t *testing.T, r redis.UniversalClient, k keys) {
		want(t, int64(3), r.SAdd(ctx, k("a"), 1, 2, 3))
		want(t, int64(3), r.SAdd(ctx, k("b"), 2, 3, 4))
		want(t, true, r.SIsMember(ctx, k("a"), 1))
		want(t, []bool{true, false}, r.SMIsMember(ctx, k("a"), 1, 9))
		for expected, command := range map[string]*redis.StringSliceCmd{
			"2,3":     r.SInter(ctx, k("a"), k("b")),
			"1,2,3,4": r.SUnion(ctx, k("a"), k("b")),
			"1":       r.SDiff(ctx, k("a"), k("b")),
		} {
			members, err := command.Result()
			sort.Strings(members)
			if err != nil || strings.Join(members, ",") != expected {
				t.Fatal(expected, members, err)
			}
		}
		want(t, int64(2), r.SInterStore(ctx, k("i"), k("a"), k("b")))
		want(t, int64(2), r.SInterCard(ctx, 0, k("a"), k("b")))
		want(t, true, r.SMove(ctx, k("a"), k("b"), 1))
		want(t, int64(1), r.SRem(ctx, k("b"), 1, 77))
		want(t, int64(3), r.SCard(ctx, k("b")))
		works(t, r.SPop(ctx, k("b")))
		works(t, r.SRandMemberN(ctx, k("b"), -5))
	})
}

func TestSortedSets(t *testing.T) {
	each(t, func(t *testing.T, r redis.UniversalClient, k keys) {
		want(t, int64(3), r.ZAdd(ctx, k("z"), redis.Z{Score: 1, Member: "a"}, redis.Z{Score: 2, Member: "b"}, redis.Z{Score: 3, Member: "c"}))
		want(t, int64(0), r.ZAddNX(ctx, k("z"), redis.Z{Score: 9, Member: "a"}))
		want(t, 12.0, r.ZIncrBy(ctx, k("z"), 10, "b"))
		want(t, []redis.Z{{Score: 1, Member: "a"}, {Score: 3, Member: "c"}, {Score: 12, Member: "b"}}, r.ZRangeWithScores(ctx, k("z"), 0, -1))
		want(t, []string{"b", "c"}, r.ZRevRangeByScore(ctx, k("z"), &redis.ZRangeBy{Min: "(1", Max: "+inf"}))
		want(t, int64(2), r.ZRank(ctx, k("z"), "b"))
		absent(t, r.ZRank(ctx, k("z"), "none"))
		want(t, 3.0, r.ZScore(ctx, k("z"), "c"))
		want(t, int64(2), r.ZCount(ctx, k("z"), "(1", "+inf"))
		want(t, int64(3), r.ZUnionStore(ctx, k("u"), &redis.ZStore{Keys: []string{k("z"), k("z")}, Weights: []float64{1, 2}}))
		want(t, 36.0, r.ZScore(ctx, k("u"), "b"))
		want(t, []string{"a", "c", "b"}, r.ZInter(ctx, &redis.ZStore{Keys: []string{k("z"), k("u")}}))
		want(t, []redis.Z{{Score: 1, Member: "a"}}, r.ZPopMin(ctx, k("z")))
		want(t, int64(1), r.ZRemRangeByScore(ctx, k("z"), "3", "3"))
		works(t, r.ZAdd(ctx, k("inf"), redis.Z{Score: math.Inf(1), Member: "top"}, redis.Z{Score: math.Inf(-1), Member: "low"}))
		want(t, math.Inf(1), r.ZScore(ctx, k("inf"), "top"))
		works(t, r.ZAdd(ctx, k("lex"), redis.Z{Member: "a"}, redis.Z{Member: "b"}, redis.Z{Member: "c"}))
		want(t, []string{"b", "c"}, r.ZRangeByLex(ctx, k("lex"), &redis.ZRangeBy{Min: "(a", Max: "+"}))
		want(t, int64(2), r.ZLexCount(ctx, k("lex"), "[b", "+"))
		works(t, r.ZRandMember(ctx, k("lex"), 2))
	})
}
