/**
 * Writes GGUF version 3, the file format of llama.cpp
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): header, metadata, tensor directory, tensor data.
 */

/** Only the types that a model of ours needs. */
export type GgufValue =
  | { type: "uint32"; value: number }
  | { type: "float32"; value: number }
  | { type: "bool"; value: boolean }
  | { type: "string"; value: string }
  | { type: "strings"; value: readonly string[] }
  | { type: "int32s"; value: readonly number[] }
  | { type: "float32s"; value: readonly number[] };

export interface GgufTensor {
  name: string;
  /** Fastest-moving dimension first: a matrix of `rows` outputs over `columns` inputs is `[columns, rows]`. */
  shape: readonly number[];
  data: Float32Array;
  /** How the file holds them. `q5_1`: blocks of 32 values, 5 bits each, with a scale and a minimum. */
  encoding: "f32" | "q5_1";
}

const MAGIC = 0x46554747;
const VERSION = 3;
const ALIGNMENT_BYTES = 32;
const TYPE = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;
const TENSOR_TYPE = { f32: 0, q5_1: 7 } as const;
const BLOCK_VALUES = 32;
const BLOCK_BYTES = 24;
const LEVEL_MAX = 31;

/** The whole file. Tensors lie in the given order, each aligned to 32 bytes. */
export function encodeGguf(metadata: Readonly<Record<string, GgufValue>>, tensors: readonly GgufTensor[]): Buffer {
  const entries = Object.entries(metadata);
  const head: Buffer[] = [uint32(MAGIC), uint32(VERSION), uint64(tensors.length), uint64(entries.length)];
  for (const [key, value] of entries) head.push(text(key), ...encodeValue(value));

  const data: Buffer[] = [];
  let offset = 0;
  for (const tensor of tensors) {
    const size = tensor.shape.reduce((product, length) => product * length, 1);
    if (size !== tensor.data.length)
      throw new Error(`tensor ${tensor.name} has ${tensor.data.length} values for a shape of ${size}`);
    head.push(
      text(tensor.name),
      uint32(tensor.shape.length),
      ...tensor.shape.map(uint64),
      uint32(TENSOR_TYPE[tensor.encoding]),
      uint64(offset),
    );
    const bytes = tensor.encoding === "f32" ? floats(tensor.data) : quantize(tensor.data);
    data.push(bytes, padding(bytes.length));
    offset += bytes.length + padding(bytes.length).length;
  }
  const header = Buffer.concat(head);
  return Buffer.concat([header, padding(header.length), ...data]);
}

function encodeValue(value: GgufValue): Buffer[] {
  switch (value.type) {
    case "uint32":
      return [uint32(TYPE.uint32), uint32(value.value)];
    case "float32":
      return [uint32(TYPE.float32), floats([value.value])];
    case "bool":
      return [uint32(TYPE.bool), Buffer.from([value.value ? 1 : 0])];
    case "string":
      return [uint32(TYPE.string), text(value.value)];
    case "strings":
      return [...arrayHead(TYPE.string, value.value.length), ...value.value.map(text)];
    case "int32s":
      return [...arrayHead(TYPE.int32, value.value.length), ...value.value.map(int32)];
    case "float32s":
      return [...arrayHead(TYPE.float32, value.value.length), floats(value.value)];
  }
}

/** ggml's `block_q5_1`: half scale, half minimum, the fifth bits of all values, then two values' low bits a byte. */
function quantize(values: Float32Array): Buffer {
  if (values.length % BLOCK_VALUES !== 0)
    throw new Error(`${values.length} values do not fill blocks of ${BLOCK_VALUES}`);
  const bytes = Buffer.alloc((values.length / BLOCK_VALUES) * BLOCK_BYTES);
  for (let block = 0; block * BLOCK_VALUES < values.length; block++) {
    const part = values.subarray(block * BLOCK_VALUES, (block + 1) * BLOCK_VALUES);
    const min = Math.min(...part);
    const scale = (Math.max(...part) - min) / LEVEL_MAX;
    const at = block * BLOCK_BYTES;
    bytes.writeUInt16LE(half(scale), at);
    bytes.writeUInt16LE(half(min), at + 2);
    let high = 0;
    for (let i = 0; i < BLOCK_VALUES; i++) {
      const level = scale === 0 ? 0 : Math.min(LEVEL_MAX, Math.round(((part[i] ?? 0) - min) / scale));
      high |= (level >> 4) << i;
      const low = at + 8 + (i % 16);
      bytes.writeUInt8(bytes.readUInt8(low) | ((level & 15) << (i < 16 ? 0 : 4)), low);
    }
    bytes.writeUInt32LE(high >>> 0, at + 4);
  }
  return bytes;
}

/** IEEE 754 half precision, rounded to the nearest; the values of a model are neither huge nor subnormal. */
function half(value: number): number {
  if (value === 0) return 0;
  const bits = floats([value]).readUInt32LE();
  const exponent = ((bits >>> 23) & 0xff) - 127 + 15;
  if (exponent <= 0) return (bits >>> 31) << 15;
  if (exponent >= 31) throw new Error(`${value} is too large for half precision`);
  // A carry out of the mantissa raises the exponent, as it should.
  return ((bits >>> 31) << 15) | ((((exponent << 23) | (bits & 0x7fffff)) + 0x1000) >>> 13);
}

function arrayHead(type: number, length: number): Buffer[] {
  return [uint32(TYPE.array), uint32(type), uint64(length)];
}

function padding(bytes: number): Buffer {
  return Buffer.alloc((ALIGNMENT_BYTES - (bytes % ALIGNMENT_BYTES)) % ALIGNMENT_BYTES);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function floats(values: ArrayLike<number>): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let i = 0; i < values.length; i++) view.setFloat32(i * 4, values[i] ?? 0, true);
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "utf8");
  return Buffer.concat([uint64(bytes.length), bytes]);
}
