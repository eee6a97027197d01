/**
 * Deadlines of all calls. Most calls end long before theirs, so what counts is that a deadline comes and goes in O(1):
 * it lies in the bucket of its second, at a place that the call knows. Only a bucket whose time has come is put in
 * order.
 */
import type { Call } from "./call.ts";
import { DueHeap } from "./heap.ts";
import type { Millis } from "./ids.ts";

const BUCKET_MS = 1_000;

export interface DeadlineBucket {
  readonly key: number;
  readonly calls: Call[];
  /** The earliest deadline that was ever in it. */
  firstAt: Millis;
}

export class Deadlines {
  private readonly buckets = new Map<number, DeadlineBucket>();
  /** The same, by time. */
  private readonly order = new DueHeap<DeadlineBucket>();
  /** Calls whose bucket's time has come; those that have ended since are skipped when they come out. */
  private readonly near = new DueHeap<Call>();
  private lastKey = Number.NEGATIVE_INFINITY;

  /** Calls that it holds; ended ones only while their second passes. */
  get size(): number {
    let size = this.near.size;
    for (const { calls } of this.buckets.values()) size += calls.length;
    return size;
  }

  /** The earliest deadline, or one of a call that has ended. */
  get nextAt(): Millis | undefined {
    const near = this.near.nextAt;
    const far = this.firstBucket()?.firstAt;
    if (near === undefined || far === undefined) return near ?? far;
    return near < far ? near : far;
  }

  add(call: Call): void {
    const key = Math.floor(call.deadlineAt / BUCKET_MS);
    if (key <= this.lastKey) {
      this.near.push(call.deadlineAt, call);
      return;
    }
    let bucket = this.buckets.get(key);
    if (!bucket) {
      bucket = { key, calls: [], firstAt: call.deadlineAt };
      this.buckets.set(key, bucket);
      this.order.push(key, bucket);
    }
    if (call.deadlineAt < bucket.firstAt) bucket.firstAt = call.deadlineAt;
    call.deadlineBucket = bucket;
    call.deadlinePlace = bucket.calls.length;
    bucket.calls.push(call);
  }

  remove(call: Call): void {
    const { deadlineBucket: bucket, deadlinePlace: place } = call;
    if (!bucket) return;
    call.deadlineBucket = undefined;
    const last = bucket.calls.pop();
    if (last === undefined || last === call) return;
    bucket.calls[place] = last;
    last.deadlinePlace = place;
  }

  popDue(at: Millis): Call | undefined {
    for (let bucket = this.firstBucket(); bucket && bucket.firstAt <= at; bucket = this.firstBucket()) {
      this.lastKey = bucket.key;
      this.drop(bucket);
      for (const call of bucket.calls) {
        call.deadlineBucket = undefined;
        this.near.push(call.deadlineAt, call);
      }
    }
    return this.near.popDue(at);
  }

  /** Drops empty buckets before it. */
  private firstBucket(): DeadlineBucket | undefined {
    for (let bucket = this.order.first; bucket; bucket = this.order.first) {
      if (bucket.calls.length > 0) return bucket;
      this.drop(bucket);
    }
    return undefined;
  }

  /** The first bucket. */
  private drop(bucket: DeadlineBucket): void {
    this.order.popDue(bucket.key);
    this.buckets.delete(bucket.key);
  }
}
