/** Where the media agent finds things, and where it listens. */
export interface MediaAgentOptions {
  /** File with an `agentConfig`. */
  readonly config: string;
  /** Of a repository in a mounted volume. */
  readonly repositoryDir?: string;
  readonly repositoryPasswordFile: string;
  /** Credentials of a server, one a file: see `REPOSITORY_FILES`. */
  readonly repositoryCredentialsDir?: string;
  /** The same for each of `config.otherRepositories`, each as `<index from 1>=<path>`. */
  readonly otherRepositoryDir?: readonly string[];
  readonly otherRepositoryPasswordFile?: readonly string[];
  readonly otherRepositoryCredentialsDir?: readonly string[];
  /** Must outlive the process: the guest's writes lie there. */
  readonly overlayDir: string;
  /** May be lost at any time. */
  readonly cacheDir: string;
  /** Holds tls.crt, tls.key and ca.crt. */
  readonly tlsDir: string;
  /** File with a `bootProfile`. */
  readonly profileFile?: string;
  /** IP address of all servers; their ports are `AGENT_PORTS`. */
  readonly listenAddress: string;
  readonly portmapper: boolean;
  /** The node that it runs on, for telling a move to another one; unknown unless given. */
  readonly node?: string;
}
