/** `/version`: the API that the built-in kinds follow. The suffix tells that this is not the real server. */
export const VERSION = {
  major: "1",
  minor: "32",
  gitVersion: "v1.32.0+vmrestore-lab",
  gitCommit: "",
  gitTreeState: "clean",
  buildDate: "1970-01-01T00:00:00Z",
  goVersion: "none",
  compiler: "none",
  platform: "linux/amd64",
};
