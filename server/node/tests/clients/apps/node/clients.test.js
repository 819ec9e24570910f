// ioredis and node-redis: pipelines, transactions, scripts, publish and subscribe, streams, cluster mode, caching.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import Redis from 'ioredis';
import { createClient, createCluster } from 'redis';

const port = Number(process.env.MERIDIAN_PORT ?? 6379);
const clusterPort = Number(process.env.MERIDIAN_CLUSTER_PORT ?? 0);
const name = () => randomUUID().slice(0, 8);

test('ioredis: pipelines, transactions, scripts', { timeout: 30000 }, async () => {
  const redis = new Redis(port);
  const tag = name();
  const replies = await redis.pipeline().set(`${tag}:a`, 1).incr(`${tag}:a`).get(`${tag}:b`).exec();
  assert.deepEqual(replies, [[null, 'OK'], [null, 2], [null, null]]);
  const block = await redis.multi().set(`${tag}:x`, 'y').mget(`${tag}:x`, `${tag}:a`).exec();
  assert.deepEqual(block, [[null, 'OK'], [null, ['y', '2']]]);
  redis.defineCommand('both', { numberOfKeys: 2, lua: "return {redis.call('get', KEYS[1]), redis.call('get', KEYS[2]), ARGV[1]}" });
  assert.deepEqual(await redis.both(`${tag}:x`, `${tag}:a`, 'z'), ['y', '2', 'z']);
  await redis.quit();
});

test('ioredis: publish, subscribe, blocking, streams', { timeout: 30000 }, async () => {
  const [redis, listener, worker] = [new Redis(port), new Redis(port), new Redis(port)];
  const tag = name();
  await listener.subscribe(tag);
  const heard = new Promise((resolve) => listener.once('message', (channel, text) => resolve([channel, text])));
  assert.equal(await redis.publish(tag, 'hello'), 1);
  assert.deepEqual(await heard, [tag, 'hello']);
  const popped = worker.blpop(`${tag}:q`, 10);
  await redis.rpush(`${tag}:q`, 'job');
  assert.deepEqual(await popped, [`${tag}:q`, 'job']);
  await redis.xgroup('CREATE', `${tag}:s`, 'g', '$', 'MKSTREAM');
  const read = worker.xreadgroup('GROUP', 'g', 'c', 'BLOCK', 10000, 'STREAMS', `${tag}:s`, '>');
  const id = await redis.xadd(`${tag}:s`, '*', 'f', 'v');
  assert.deepEqual(await read, [[`${tag}:s`, [[id, ['f', 'v']]]]]);
  assert.equal(await redis.xack(`${tag}:s`, 'g', id), 1);
  for (const client of [redis, listener, worker]) await client.quit();
});

test('ioredis: cluster mode', { timeout: 30000, skip: clusterPort === 0 }, async () => {
  const cluster = new Redis.Cluster([{ host: '127.0.0.1', port: clusterPort }]);
  const tag = name();
  await Promise.all(Array.from({ length: 200 }, (_, n) => cluster.set(`${tag}:${n}`, n)));
  const values = await Promise.all(Array.from({ length: 200 }, (_, n) => cluster.get(`${tag}:${n}`)));
  assert.deepEqual(values, Array.from({ length: 200 }, (_, n) => String(n)));
  await cluster.quit();
});

test('node-redis: both protocols', { timeout: 30000 }, async () => {
  for (const RESP of [2, 3]) {
    const client = await createClient({ url: `redis://127.0.0.1:${port}`, RESP, unstableResp3: true }).connect();
    const tag = name();
    assert.deepEqual(await client.multi().set(`${tag}:a`, '1').incr(`${tag}:a`).exec(), ['OK', 2]);
    await client.hSet(`${tag}:h`, { f: 'v', g: 'w' });
    assert.deepEqual({ ...(await client.hGetAll(`${tag}:h`)) }, { f: 'v', g: 'w' });
    assert.equal(await client.eval("return redis.call('incrby', KEYS[1], ARGV[1])", { keys: [`${tag}:a`], arguments: ['5'] }), 7);
    const listener = await client.duplicate().connect();
    const heard = new Promise((resolve) => listener.subscribe(tag, resolve).then(() => client.publish(tag, 'hello')));
    assert.equal(await heard, 'hello');
    const id = await client.xAdd(`${tag}:s`, '*', { f: 'v' });
    const read = await client.xRead({ key: `${tag}:s`, id: '0' });
    assert.ok(JSON.stringify(read).includes(id));
    await listener.close();
    await client.close();
  }
});

test('node-redis: a cache in the client', { timeout: 30000 }, async () => {
  const caching = await createClient({ url: `redis://127.0.0.1:${port}`, RESP: 3, clientSideCache: { ttl: 0, maxEntries: 0, evictPolicy: 'LRU' } }).connect();
  const other = await createClient({ url: `redis://127.0.0.1:${port}` }).connect();
  const key = name();
  await other.set(key, 'old');
  assert.equal(await caching.get(key), 'old');
  assert.equal(await caching.get(key), 'old');
  await other.set(key, 'new');
  for (let n = 0; n < 200 && (await caching.get(key)) !== 'new'; n++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(await caching.get(key), 'new');
  await caching.close();
  await other.close();
});

test('node-redis: cluster mode', { timeout: 30000, skip: clusterPort === 0 }, async () => {
  const cluster = await createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${clusterPort}` }] }).connect();
  const tag = name();
  await Promise.all(Array.from({ length: 100 }, (_, n) => cluster.set(`${tag}:${n}`, String(n))));
  assert.equal(await cluster.get(`${tag}:42`), '42');
  await cluster.close();
});
