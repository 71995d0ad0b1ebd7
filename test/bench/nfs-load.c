/*
 * Reads a file over NFS with libnfs, so many reads under way at once, and says how many it did:
 *   nfs-load URL FILE SECONDS DEPTH BLOCK random|sequential
 * URL as libnfs takes it; 0 seconds means the whole file once. Prints "READS SECONDS".
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <nfsc/libnfs.h>

static struct nfs_context *nfs;
static struct nfsfh *file;
static uint64_t size, block, next_block, state = 88172645463325252ull;
static long done, under_way;
static int is_random, once, failed;
static double until;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void begin(void);

static void arrived(int status, struct nfs_context *context, void *data, void *unused) {
  (void)context, (void)data, (void)unused;
  under_way--;
  if (status != (int)block) {
    failed = 1;
    return;
  }
  done++;
  if (once ? next_block < size / block : now() < until) begin();
}

static void begin(void) {
  uint64_t blocks = size / block, at;
  if (is_random) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    at = state % blocks;
  } else {
    at = next_block++ % blocks;
  }
  under_way++;
  if (nfs_pread_async(nfs, file, at * block, block, arrived, NULL) != 0) failed = 1, under_way--;
}

int main(int count, char **words) {
  if (count != 7) return 2;
  nfs = nfs_init_context();
  struct nfs_url *url = nfs_parse_url_dir(nfs, words[1]);
  struct nfs_stat_64 attributes;
  if (url == NULL || nfs_mount(nfs, url->server, url->path) != 0 || nfs_open(nfs, words[2], 0, &file) != 0 ||
      nfs_fstat64(nfs, file, &attributes) != 0) {
    fprintf(stderr, "nfs-load: %s\n", nfs_get_error(nfs));
    return 1;
  }
  size = attributes.nfs_size;
  block = strtoull(words[5], NULL, 10);
  is_random = strcmp(words[6], "random") == 0;
  once = atof(words[3]) == 0;
  double start = now();
  until = start + atof(words[3]);
  for (int depth = atoi(words[4]); depth > 0; depth--) begin();
  while (under_way > 0 && !failed) {
    struct pollfd wait = {.fd = nfs_get_fd(nfs), .events = nfs_which_events(nfs)};
    if (poll(&wait, 1, 10000) <= 0 || nfs_service(nfs, wait.revents) < 0) failed = 1;
  }
  if (failed) {
    fprintf(stderr, "nfs-load: %s\n", nfs_get_error(nfs));
    return 1;
  }
  printf("%ld %f\n", done, now() - start);
  return 0;
}
