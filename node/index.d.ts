/// <reference lib="esnext.disposable" />

/** Options of {@link acquire}. */
export interface AcquireOptions {
  /** The configuration file. The default is the nearest `procref.toml` in `cwd` or above it. */
  config?: string;
  /** The directory in which procref runs. The default is the working directory. */
  cwd?: string;
  /** The environment of procref, and of the service if this call starts it. The default is `process.env`. */
  env?: Readonly<Record<string, string | undefined>>;
  /**
   * The program of the service and its arguments, if no file describes the service. `{port}` is a free port. A text is
   * split as in `procref.toml`.
   */
  start?: string | readonly string[];
  /** More options of `procref hold`, such as `["--linger", "5s"]`. */
  args?: readonly string[];
  /** Cancels the acquire. It has no effect on a service that was acquired. */
  signal?: AbortSignal;
}

/**
 * A reference to a service. It ends with {@link Handle.release}, or with this process, even if the process is killed.
 * It does not keep this process running.
 */
export interface Handle extends AsyncDisposable {
  /** The name of the service. */
  readonly name: string;
  /** The process of the service. */
  readonly pid: number | null;
  /** The port of the service. */
  readonly port: number | null;
  /** The number of the instance while the service is in use. */
  readonly generation: number;
  /** The variables that `procref run` would set: `PROCREF_PORT` and the like, and those of `export`. */
  readonly env: Readonly<Record<string, string>>;
  /** The metadata of the service. */
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * Fulfilled if the service exits while this handle holds it, with an error that says how it exited. Otherwise the
   * promise stays pending, and does not keep this process running.
   */
  readonly died: Promise<ProcrefError>;
  /**
   * Releases the reference. A service that no other process holds is then stopped. Does nothing if the service has
   * died or the reference was released.
   */
  release(): Promise<void>;
}

/** Any error of procref. The message names the service, the cause, and what to do. */
export declare class ProcrefError extends Error {
  constructor(message: string, exitCode?: number | null);
  /**
   * The exit code of `procref hold`: 1 for a failure, 2 for an invalid option or file, 5 for a time limit. `null` if the
   * program was not found, could not be executed, or was killed.
   */
  readonly exitCode: number | null;
}

/**
 * Acquires a service: starts it, or joins the one that runs. The promise is fulfilled when the service is ready.
 *
 * @param name the name of a service in `procref.toml`, or any name with the option `start`
 * @throws {ProcrefError} if the service cannot be acquired
 * @throws the reason of `signal`
 */
export declare function acquire(name: string, options?: AcquireOptions): Promise<Handle>;

/**
 * The path of the program `procref`. Importing the package fails if there is no program for this system. The variable
 * `PROCREF_BINARY` names another program.
 */
export declare const binary: string;
