/*
 * Preloaded into a media agent: a claim that forgets what was not synced, fails, or takes less than it was given.
 *
 * Before a file below CLAIM_FAULTS_CLAIM changes, what it was goes to the log in CLAIM_FAULTS_STATE, and so do changes of names and
 * the syncs: when they begin and how they end. claim-faults.ts reads it after the process is gone, and takes back what a power loss
 * would have. Each record is written by one call before the change that it tells of, both under one lock; so a record that a kill
 * tore tells of nothing that came about. Files that lose their name keep another one in `kept`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SECTOR 512
#define FILES 65536
#define PIECES 1024
#define REAL(name)                                                     \
	({                                                             \
		static __typeof__(&name) found;                        \
		if (!found)                                            \
			found = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
		found;                                                 \
	})

enum kind { CHANGED = 1, BEGUN, SYNCED, SYNC_FAILED, CREATED, RENAMED, REMOVED };

/* Little endian, as in claim-faults.ts. */
struct record {
	uint32_t checksum; /* CRC-32 of what follows, the bytes behind included */
	uint32_t kind;
	uint64_t file;   /* inode */
	uint64_t at;     /* CHANGED: first byte, a whole sector; SYNCED, SYNC_FAILED: where the record of its beginning lies */
	uint64_t length; /* CHANGED: bytes that change, in whole sectors */
	uint64_t size;   /* CHANGED: of the file, before */
	uint64_t bytes;  /* behind the record: what was there as far as the file went, or names with a zero each */
};

/* The test sets it at any time. */
struct control {
	uint32_t short_permille; /* of writes of more than a sector take less than all */
	uint32_t write_fails;    /* the how manieth from now fails, 0 for none; it goes down to 0 */
	uint32_t sync_fails;
	uint32_t seed;
	uint32_t failed; /* how many have */
};

static struct {
	int is_used;
	int is_directory;
	int reader; /* the file may be open for writing only */
	dev_t device;
	ino_t inode;
} files[FILES];

static const char *claim;
static const char *state;
static size_t claim_length;
static int log_file;
static volatile struct control *control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t table[256];
static unsigned random_state;

static void fail(const char *what)
{
	fprintf(stderr, "claim-faults: %s: %s\n", what, strerror(errno));
	abort();
}

__attribute__((constructor)) static void begin(void)
{
	char path[4096];
	state = getenv("CLAIM_FAULTS_STATE");
	claim = getenv("CLAIM_FAULTS_CLAIM");
	if (!state || !claim) {
		claim = NULL;
		return;
	}
	claim_length = strlen(claim);
	for (uint32_t at = 0; at < 256; at++) {
		table[at] = at;
		for (int bit = 0; bit < 8; bit++)
			table[at] = table[at] >> 1 ^ (table[at] & 1 ? 0xedb88320u : 0);
	}
	snprintf(path, sizeof path, "%s/log", state);
	log_file = REAL(open)(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	snprintf(path, sizeof path, "%s/control", state);
	int file = REAL(open)(path, O_RDWR | O_CLOEXEC);
	if (log_file < 0 || file < 0)
		fail("no log or control");
	control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (control == MAP_FAILED)
		fail("control");
	random_state = control->seed;
}

static uint32_t below(uint32_t limit)
{
	return rand_r(&random_state) % limit;
}

static int is_inside(const char *path)
{
	return claim && !strncmp(path, claim, claim_length) && (path[claim_length] == '/' || path[claim_length] == 0);
}

static void forget(int file)
{
	files[file].is_used = 0;
	if (files[file].reader >= 0)
		REAL(close)(files[file].reader);
}

/* libuv closes by a bare system call, so a number may be another file's by now. */
static int is_tracked(int file)
{
	if (!claim || file < 0 || file >= FILES || !files[file].is_used)
		return 0;
	struct stat now;
	pthread_mutex_lock(&lock);
	int is_same = fstat(file, &now) == 0 && now.st_dev == files[file].device && now.st_ino == files[file].inode;
	if (!is_same && files[file].is_used)
		forget(file);
	pthread_mutex_unlock(&lock);
	return is_same;
}

/* Gives where the record begins. */
static uint64_t append(struct record *record, size_t bytes)
{
	record->bytes = bytes;
	const unsigned char *all = (const unsigned char *)record;
	uint32_t checksum = ~0u;
	for (size_t at = sizeof record->checksum; at < sizeof *record + bytes; at++)
		checksum = table[(checksum ^ all[at]) & 255] ^ checksum >> 8;
	record->checksum = ~checksum;
	struct stat before;
	if (fstat(log_file, &before) < 0 || REAL(write)(log_file, all, sizeof *record + bytes) != (ssize_t)(sizeof *record + bytes))
		fail("log");
	return before.st_size;
}

static uint64_t note(enum kind kind, uint64_t file, uint64_t at)
{
	struct record record = {.kind = kind, .file = file, .at = at};
	return append(&record, 0);
}

static void note_names(enum kind kind, uint64_t file, const char *from, const char *to)
{
	size_t first = strlen(from) + 1, second = strlen(to) + 1;
	struct record *record = calloc(1, sizeof *record + first + second);
	record->kind = kind;
	record->file = file;
	memcpy(record + 1, from, first);
	memcpy((char *)(record + 1) + first, to, second);
	append(record, first + second);
	free(record);
}

/* Bytes from `at` to `end` will change, and so may the size. */
static void note_change(int reader, uint64_t inode, uint64_t at, uint64_t end)
{
	struct stat before;
	if (fstat(reader, &before) < 0)
		fail("stat");
	uint64_t size = before.st_size;
	at -= at % SECTOR;
	end += (SECTOR - end % SECTOR) % SECTOR;
	uint64_t there = size <= at ? 0 : (size < end ? size : end) - at;
	struct record *record = malloc(sizeof *record + there);
	*record = (struct record){.kind = CHANGED, .file = inode, .at = at, .length = end - at, .size = size};
	if (pread(reader, record + 1, there, at) != (ssize_t)there)
		fail("read");
	append(record, there);
	free(record);
}

/* The file stays, whatever becomes of its name. */
static void keep(const char *path)
{
	static int count;
	char kept[4096];
	snprintf(kept, sizeof kept, "%s/kept/%d-%d", state, getpid(), count++);
	if (link(path, kept) < 0)
		fail("link");
}

static int is_file(const char *path, struct stat *found)
{
	return lstat(path, found) == 0 && S_ISREG(found->st_mode);
}

static int open_inside(const char *path, int flags, mode_t mode)
{
	struct stat found;
	pthread_mutex_lock(&lock);
	int was_there = is_file(path, &found);
	if (was_there && flags & O_TRUNC) {
		int reader = REAL(open)(path, O_RDONLY | O_CLOEXEC);
		note_change(reader, found.st_ino, 0, found.st_size);
		REAL(close)(reader);
	}
	int file = REAL(open)(path, flags, mode);
	int error = errno;
	if (file >= 0 && file < FILES && fstat(file, &found) == 0) {
		int is_regular = S_ISREG(found.st_mode);
		if (is_regular && !was_there)
			note_names(CREATED, found.st_ino, path + claim_length + 1, "");
		char again[64];
		snprintf(again, sizeof again, "/proc/self/fd/%d", file);
		if (files[file].is_used)
			forget(file);
		files[file].device = found.st_dev;
		files[file].inode = found.st_ino;
		files[file].is_directory = !is_regular;
		files[file].reader = is_regular ? REAL(open)(again, O_RDONLY | O_CLOEXEC) : -1;
		files[file].is_used = 1;
	}
	pthread_mutex_unlock(&lock);
	errno = error;
	return file;
}

#define MODE(flags)                                     \
	({                                              \
		va_list more;                           \
		va_start(more, flags);                  \
		mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0; \
		va_end(more);                           \
		mode;                                   \
	})

int open(const char *path, int flags, ...)
{
	mode_t mode = MODE(flags);
	return is_inside(path) ? open_inside(path, flags, mode) : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	mode_t mode = MODE(flags);
	return is_inside(path) ? open_inside(path, flags, mode) : REAL(open64)(path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...)
{
	mode_t mode = MODE(flags);
	return is_inside(path) ? open_inside(path, flags, mode) : REAL(openat)(directory, path, flags, mode);
}

/* `offset` is -1 where the file's own position counts. */
static ssize_t write_pieces(int file, const struct iovec *pieces, int count, off_t offset)
{
	if (!is_tracked(file))
		return offset < 0 ? REAL(writev)(file, pieces, count) : REAL(pwritev)(file, pieces, count, offset);
	struct iovec cut[PIECES];
	size_t length = 0;
	for (int at = 0; at < count; at++)
		length += pieces[at].iov_len;

	pthread_mutex_lock(&lock);
	int fails = control->write_fails > 0 && --control->write_fails == 0;
	size_t left = length;
	/* In whole sectors, as the kernel does it: else a kill before the rest is written would tear one. */
	if (fails)
		left = SECTOR * below(length / SECTOR + 1);
	else if (length > SECTOR && below(1000) < control->short_permille)
		left = SECTOR * (1 + below((length - 1) / SECTOR));
	off_t at = offset < 0 ? lseek(file, 0, fcntl(file, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR) : offset;
	if (left > 0)
		note_change(files[file].reader, files[file].inode, at, at + left);
	int used = 0;
	for (; used < count && used < PIECES && left > 0; used++) {
		cut[used] = pieces[used];
		if (cut[used].iov_len > left)
			cut[used].iov_len = left;
		left -= cut[used].iov_len;
	}
	ssize_t written = offset < 0 ? REAL(writev)(file, cut, used) : REAL(pwritev)(file, cut, used, offset);
	int error = errno;
	if (fails) {
		control->failed++;
		written = -1;
		error = EIO;
	}
	pthread_mutex_unlock(&lock);
	errno = error;
	return written;
}

ssize_t write(int file, const void *bytes, size_t length)
{
	struct iovec piece = {(void *)bytes, length};
	return is_tracked(file) ? write_pieces(file, &piece, 1, -1) : REAL(write)(file, bytes, length);
}

ssize_t writev(int file, const struct iovec *pieces, int count)
{
	return write_pieces(file, pieces, count, -1);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off_t offset)
{
	struct iovec piece = {(void *)bytes, length};
	return is_tracked(file) ? write_pieces(file, &piece, 1, offset) : REAL(pwrite64)(file, bytes, length, offset);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset)
{
	return pwrite64(file, bytes, length, offset);
}

ssize_t pwritev(int file, const struct iovec *pieces, int count, off_t offset)
{
	return write_pieces(file, pieces, count, offset);
}

ssize_t pwritev64(int file, const struct iovec *pieces, int count, off_t offset)
{
	return write_pieces(file, pieces, count, offset);
}

int ftruncate64(int file, off_t size)
{
	if (!is_tracked(file))
		return REAL(ftruncate64)(file, size);
	struct stat before;
	pthread_mutex_lock(&lock);
	fstat(file, &before);
	note_change(files[file].reader, files[file].inode, size, before.st_size > size ? before.st_size : size);
	int result = REAL(ftruncate64)(file, size);
	int error = errno;
	pthread_mutex_unlock(&lock);
	errno = error;
	return result;
}

int ftruncate(int file, off_t size)
{
	return ftruncate64(file, size);
}

/* What is written while it runs is not covered. */
static int sync_with(int file, int (*real)(int))
{
	if (!is_tracked(file))
		return real(file);
	uint64_t inode = files[file].is_directory ? 0 : files[file].inode;
	pthread_mutex_lock(&lock);
	uint64_t begun = note(BEGUN, inode, 0);
	int fails = control->sync_fails > 0 && --control->sync_fails == 0;
	pthread_mutex_unlock(&lock);
	int result = fails ? -1 : real(file);
	int error = fails ? EIO : errno;
	pthread_mutex_lock(&lock);
	note(result == 0 ? SYNCED : SYNC_FAILED, inode, begun);
	if (fails)
		control->failed++;
	pthread_mutex_unlock(&lock);
	errno = error;
	return result;
}

int fdatasync(int file)
{
	return sync_with(file, REAL(fdatasync));
}

int fsync(int file)
{
	return sync_with(file, REAL(fsync));
}

int rename(const char *from, const char *to)
{
	struct stat found, replaced;
	if (!is_inside(from) || !is_file(from, &found))
		return REAL(rename)(from, to);
	pthread_mutex_lock(&lock);
	if (is_file(to, &replaced))
		keep(to);
	note_names(RENAMED, found.st_ino, from + claim_length + 1, to + claim_length + 1);
	int result = REAL(rename)(from, to);
	int error = errno;
	pthread_mutex_unlock(&lock);
	errno = error;
	return result;
}

int unlink(const char *path)
{
	struct stat found;
	if (!is_inside(path) || !is_file(path, &found))
		return REAL(unlink)(path);
	pthread_mutex_lock(&lock);
	keep(path);
	note_names(REMOVED, found.st_ino, path + claim_length + 1, "");
	int result = REAL(unlink)(path);
	int error = errno;
	pthread_mutex_unlock(&lock);
	errno = error;
	return result;
}
