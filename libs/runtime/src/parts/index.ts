export { cacheDir } from "./cache.ts";
export { ChildError, type ChildOptions, runChild, spawnTied, type TiedChild } from "./child.ts";
export { debianMirror, unpackDebian } from "./debian.ts";
export { holdFolder, holdGroup, sendSignal } from "./leftovers.ts";
export { DEFAULT_MODEL, obtainDefaultModel } from "./model.ts";
export { NATS_VERSION, type NatsBinary, obtainNatsServer } from "./nats-binary.ts";
export { type NatsServer, type NatsServerOptions, startNatsServer } from "./nats-server.ts";
export { type ObtainOptions, PartError, type PartProgress, reasonOf } from "./steps.ts";
