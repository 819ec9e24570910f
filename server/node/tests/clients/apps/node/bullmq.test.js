// BullMQ, unmodified: its scripts touch keys that they do not declare, on every core.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { Queue, QueueEvents, Worker, FlowProducer } from 'bullmq';

const connection = { host: '127.0.0.1', port: Number(process.env.MERIDIAN_PORT ?? 6379), maxRetriesPerRequest: null };

async function withQueue(run, work, options = {}) {
  const name = `q-${randomUUID()}`;
  const queue = new Queue(name, { connection });
  const events = new QueueEvents(name, { connection });
  await events.waitUntilReady();
  const worker = new Worker(name, work, { connection, concurrency: 4, ...options });
  await worker.waitUntilReady();
  try {
    await run({ queue, events, worker, name });
  } finally {
    await worker.close();
    await events.close();
    await queue.close();
  }
}

test('jobs run once each', { timeout: 60000 }, async () => {
  const runs = new Map();
  await withQueue(
    async ({ queue, events }) => {
      const jobs = await queue.addBulk(Array.from({ length: 200 }, (_, n) => ({ name: 'job', data: { n } })));
      const results = await Promise.all(jobs.map((job) => job.waitUntilFinished(events, 50000)));
      assert.deepEqual(results, Array.from({ length: 200 }, (_, n) => n * 2));
      assert.ok([...runs.values()].every((count) => count === 1));
      assert.equal(runs.size, 200);
      const counts = await queue.getJobCounts();
      assert.equal(counts.completed, 200);
      assert.equal(counts.waiting + counts.active + counts.failed, 0);
    },
    async (job) => {
      runs.set(job.data.n, (runs.get(job.data.n) ?? 0) + 1);
      return job.data.n * 2;
    },
  );
});

test('retries with backoff, delays and priorities', { timeout: 60000 }, async () => {
  const order = [];
  await withQueue(
    async ({ queue, events }) => {
      const flaky = await queue.add('flaky', {}, { attempts: 4, backoff: { type: 'fixed', delay: 100 } });
      assert.equal(await flaky.waitUntilFinished(events, 30000), 'third');
      const begun = Date.now();
      const late = await queue.add('late', {}, { delay: 800 });
      await late.waitUntilFinished(events, 30000);
      assert.ok(Date.now() - begun >= 790);
      await queue.pause();
      const jobs = [];
      for (const priority of [5, 1, 3]) jobs.push(await queue.add('ranked', { priority }, { priority }));
      await queue.resume();
      await Promise.all(jobs.map((job) => job.waitUntilFinished(events, 30000)));
      assert.deepEqual(order, [1, 3, 5]);
    },
    async (job) => {
      if (job.name === 'flaky' && job.attemptsMade < 2) throw new Error('not yet');
      if (job.name === 'ranked') order.push(job.data.priority);
      return job.name === 'flaky' ? 'third' : undefined;
    },
    { concurrency: 1 },
  );
});

test('a parent waits for its children', { timeout: 60000 }, async () => {
  await withQueue(
    async ({ events, name }) => {
      const flow = new FlowProducer({ connection });
      const children = [1, 2, 3].map((n) => ({ name: 'child', queueName: name, data: { n } }));
      const tree = await flow.add({ name: 'parent', queueName: name, children });
      assert.equal(await tree.job.waitUntilFinished(events, 30000), 6);
      await flow.close();
    },
    async (job) => {
      if (job.name === 'child') return job.data.n;
      const values = await job.getChildrenValues();
      return Object.values(values).reduce((sum, n) => sum + n, 0);
    },
  );
});
