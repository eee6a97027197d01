/**
 * The images that `docker-compose.yml` builds on, made here: where no registry can be reached they cannot be pulled.
 * A root of Debian stands below all of them, so that they share what is large. An image of the real name that is there
 * already is taken instead.
 */
import { createHash } from "node:crypto";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debianMirror, obtainNatsServer, runChild } from "@autellix/runtime";
import type { Env } from "../engines/equipment/python.ts";
import type { DockerAccess } from "./docker.ts";
import { isRoot, needPrograms, withSystemPath } from "./machine.ts";

/** Variables of docker-compose.yml (NODE_IMAGE of infra/Dockerfile) and the names that stand there. */
const REAL = {
  NODE_IMAGE: "node:24-bookworm-slim",
  NATS_IMAGE: "nats:2.15-alpine",
  HAPROXY_IMAGE: "haproxy:3.0-alpine",
  PROMETHEUS_IMAGE: "prom/prometheus:v3.5.0",
  JAEGER_IMAGE: "jaegertracing/all-in-one:1.65.0",
} as const;
export type ImageVariable = keyof typeof REAL;
export type Images = Record<ImageVariable, string>;

const DEBIAN_PACKAGES = ["busybox-static", "ca-certificates", "haproxy", "prometheus"];
const NPM = "npm@11.21.2";
const DEBOOTSTRAP_MS_MAX = 10 * 60_000;
const BUILD_MS_MAX = 5 * 60_000;
/** Counts up when a recipe below changes in a way that its texts do not show. */
const RECIPES = 1;

export interface ImageOptions {
  docker: DockerAccess;
  env: Env;
  signal: AbortSignal;
  say(text: string): void;
  /** Makes or finds the binary of Jaeger; it is only asked for when its image must be built. */
  jaeger(): Promise<string>;
}

/** @throws Error that says in one line what is missing and how to get it. */
export async function obtainImages(options: ImageOptions): Promise<Images> {
  const images: Partial<Images> = {};
  for (const variable of Object.keys(REAL) as ImageVariable[]) {
    const real = REAL[variable];
    images[variable] = (await isThere(real, options)) ? real : await RECIPE[variable](options);
  }
  return images as Images;
}

/** What stands in a folder of its own and becomes an image. */
interface Recipe {
  /** `autellix-test/<name>`. */
  name: string;
  dockerfile: string;
  /** Copied beside the Dockerfile, executable. */
  files?: Readonly<Record<string, string>>;
  /** What else decides what is in the image, such as a version. */
  version: string;
}

const RECIPE: Readonly<Record<ImageVariable, (options: ImageOptions) => Promise<string>>> = {
  NODE_IMAGE: nodeImage,
  async NATS_IMAGE(options) {
    const { path, version } = await obtainNatsServer({ env: options.env, signal: options.signal });
    return await build(options, {
      name: "nats",
      version,
      files: { "nats-server": path },
      dockerfile: `COPY nats-server /usr/local/bin/nats-server
EXPOSE 4222 6222 8222
ENTRYPOINT ["/usr/local/bin/nats-server"]`,
    });
  },
  HAPROXY_IMAGE: (options) =>
    build(options, {
      name: "haproxy",
      version: "debian",
      dockerfile: `RUN mkdir -p /usr/local/etc/haproxy && cp -r /etc/haproxy/errors /usr/local/etc/haproxy/
USER haproxy
STOPSIGNAL SIGUSR1
CMD ["haproxy", "-W", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]`,
    }),
  PROMETHEUS_IMAGE: (options) =>
    build(options, {
      name: "prometheus",
      version: "debian",
      dockerfile: `RUN mkdir -p /prometheus && chown 65534:65534 /prometheus
USER 65534
WORKDIR /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]`,
    }),
  JAEGER_IMAGE: async (options) =>
    await build(options, {
      name: "jaeger",
      version: REAL.JAEGER_IMAGE,
      files: { jaeger: await options.jaeger() },
      dockerfile: `COPY jaeger /usr/local/bin/jaeger
USER 10001
ENTRYPOINT ["/usr/local/bin/jaeger"]`,
    }),
};

/** Node and npm as the real image has them, and what this machine's npm needs to reach its registry. */
async function nodeImage(options: ImageOptions): Promise<string> {
  const { env, signal } = options;
  const npm = async (...args: string[]) => (await runChild("npm", args, { env, signal })).stdout.trim();
  const authorities =
    env.NODE_EXTRA_CA_CERTS || (await npm("config", "get", "cafile")).replace(/^(null|undefined)$/, "");
  const registry = await npm("config", "get", "registry");
  const folder = await mkdtemp(join(tmpdir(), "autellix-npm-"));
  try {
    const archive = (await npm("pack", "--silent", "--pack-destination", folder, NPM)).split("\n").at(-1) ?? "";
    const empty = join(folder, "no-authorities.pem");
    await writeFile(empty, "");
    return await build(options, {
      name: "node",
      version: `${process.version} ${NPM} ${registry} ${authorities && (await digest(authorities))}`,
      files: { node: process.execPath, "npm.tgz": join(folder, archive), "authorities.pem": authorities || empty },
      dockerfile: `COPY node /usr/local/bin/node
COPY npm.tgz /tmp/npm.tgz
COPY authorities.pem /etc/ssl/machine.pem
RUN mkdir -p /usr/local/lib/node_modules/npm \\
  && tar -xzf /tmp/npm.tgz -C /usr/local/lib/node_modules/npm --strip-components=1 --no-same-owner \\
  && ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \\
  && chmod 644 /etc/ssl/machine.pem && chmod 755 /usr/local/lib/node_modules/npm/bin/npm-cli.js && rm /tmp/npm.tgz \\
  && useradd --uid 1000 --create-home --shell /bin/bash node
ENV NODE_EXTRA_CA_CERTS=${authorities ? "/etc/ssl/machine.pem" : ""} NPM_CONFIG_REGISTRY=${registry}
CMD ["node"]`,
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @returns the name of the image, which is built when it is not there. */
async function build(options: ImageOptions, { name, dockerfile, files = {}, version }: Recipe): Promise<string> {
  const debian = debianName();
  const text = `FROM ${debian}\n${dockerfile}\n`;
  const image = nameOf(name, text, version);
  if (await isThere(image, options)) return image;
  await debianImage(debian, options);
  options.say(`building the image ${image} …`);
  const folder = await mkdtemp(join(tmpdir(), "autellix-image-"));
  try {
    await writeFile(join(folder, "Dockerfile"), text);
    for (const [file, path] of Object.entries(files)) {
      await copyFile(path, join(folder, file));
      await chmod(join(folder, file), 0o755);
    }
    await docker(options, ["build", "--quiet", "--tag", image, folder], BUILD_MS_MAX);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return image;
}

function debianName(): string {
  return nameOf("debian", DEBIAN_PACKAGES.join(" "), "bookworm");
}

/** A small Debian with the programs that are packages of it. */
async function debianImage(image: string, options: ImageOptions): Promise<void> {
  if (await isThere(image, options)) return;
  const { env, signal, say } = options;
  if (!isRoot()) throw new Error("images cannot be built without root (pull them: docker compose pull)");
  await needPrograms({ debootstrap: "debootstrap", tar: "tar" }, options);
  say("making a root of Debian by debootstrap, which takes a minute or two …");
  // Not below a folder of temporary files that may be mounted without devices.
  const folder = await mkdtemp(join("/var/tmp", "autellix-debian-"));
  const root = join(folder, "root");
  const limit = AbortSignal.any([signal, AbortSignal.timeout(DEBOOTSTRAP_MS_MAX)]);
  const run = (command: string, args: string[], variables: Env = {}) =>
    runChild(command, args, { env: { ...withSystemPath(env), ...variables }, signal: limit });
  try {
    await mkdir(root);
    const include = `--include=${DEBIAN_PACKAGES.join(",")}`;
    await run("debootstrap", ["--variant=minbase", include, "bookworm", root, await debianMirror()]);
    // What images of others bring: `wget`, as busybox has it.
    await run("chroot", [root, "ln", "-s", "/bin/busybox", "/usr/bin/wget"]);
    const waste = ["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"];
    for (const path of waste) await rm(join(root, path), { recursive: true, force: true });
    const imported = `tar -C "$0" -c . | docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$1"`;
    await run("sh", ["-c", imported, root, image], options.docker.env);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function isThere(image: string, options: ImageOptions): Promise<boolean> {
  const listed = await docker(options, ["images", "--quiet", image], BUILD_MS_MAX);
  return listed.trim() !== "";
}

async function docker({ docker: access, env, signal }: ImageOptions, args: string[], msMax: number): Promise<string> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(msMax)]);
  // The builder that every Docker has.
  const variables = { ...env, ...access.env, DOCKER_BUILDKIT: "0" };
  return (await runChild("docker", args, { env: variables, signal: limit })).stdout;
}

/** An image is known by what it is made of: another recipe is another image. */
function nameOf(name: string, recipe: string, version: string): string {
  const hash = createHash("sha256").update(`${RECIPES}\n${recipe}\n${version}`).digest("hex").slice(0, 12);
  return `autellix-test/${name}:${hash}`;
}

async function digest(path: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}
