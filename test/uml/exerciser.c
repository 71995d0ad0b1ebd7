/*
 * Does random things to a part of a file for a while, and compares every byte with a model in memory:
 *
 *     exerciser FILE OFFSET BYTES SEED SECONDS ORIGINAL
 *
 * It ends sooner when it gets SIGTERM.
 *
 * The model begins as that part of ORIGINAL, another file: what was never written must be what it was, whenever it is read first.
 * Reads and writes through the page cache, with O_DIRECT and through a mapping; fsync, truncation to the same size and to another
 * one (which must fail), hole punching (likewise), dropped caches, and closing and opening again. Several may run on parts of one file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define SECTOR 512
#define DIRECT_MOST (2 * 1024 * 1024)
#define BUFFERED_MOST (160 * 1024)
#define LAST_READ (256 * 1024)

static const char *path;
static off_t base, file_size;
static size_t size;
static unsigned char *model, *buffer;
static int cached = -1, direct = -1;
static uint64_t state, operations;
static const char *doing = "beginning";

static volatile sig_atomic_t told_to_end;

static void end_now(int number)
{
	(void)number;
	told_to_end = 1;
}

static uint64_t next(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 11) % below;
}

static void fail(const char *what)
{
	printf("EXERCISER: operation %llu (%s): %s: %s\n", (unsigned long long)operations, doing, what, strerror(errno));
	exit(1);
}

static void reopen(void)
{
	if (cached >= 0 && close(cached) != 0)
		fail("close");
	if (direct >= 0 && close(direct) != 0)
		fail("close");
	cached = open(path, O_RDWR);
	direct = open(path, O_RDWR | O_DIRECT);
	if (cached < 0 || direct < 0)
		fail("open");
}

static void compare(const unsigned char *seen, size_t from, size_t length)
{
	for (size_t at = 0; at < length; at++) {
		if (seen[at] == model[from + at])
			continue;
		errno = 0;
		printf("EXERCISER: byte %llu is %u and should be %u\n", (unsigned long long)(base + from + at), seen[at],
		       model[from + at]);
		fail("another content than was written");
	}
}

/* A part on multiples of `unit`. */
static void choose(size_t most, size_t unit, size_t *from, size_t *length)
{
	if (most > size)
		most = size;
	*length = (1 + next(next(4) == 0 ? most / unit : most / unit / 16 + 1)) * unit;
	if (*length > most)
		*length = most;
	*from = next((size - *length) / unit + 1) * unit;
}

/* New content, in the model too. Sometimes zeros: they are stored in another way. */
static void fill(unsigned char *into, size_t from, size_t length)
{
	if (next(8) == 0) {
		memset(into, 0, length);
	} else {
		uint64_t word = state | 1;
		for (size_t at = 0; at < length; at++) {
			word = word * 6364136223846793005ULL + 1442695040888963407ULL;
			into[at] = word >> 56;
		}
	}
	memcpy(model + from, into, length);
}

/*
 * Linux drops what it has cached of a file that seems to have changed (answers that came late, or from another life of the server) before it
 * reads, writes or maps it, and gives up with EBUSY where pages are just being written: the same call succeeds a moment later.
 */
static int is_busy(void)
{
	if (errno != EBUSY)
		return 0;
	usleep(10000);
	return 1;
}

static void do_write(int file, size_t most, size_t unit)
{
	size_t from, length;
	choose(most, unit, &from, &length);
	fill(buffer, from, length);
	for (size_t done = 0; done < length;) {
		ssize_t wrote = pwrite(file, buffer + done, length - done, base + from + done);
		if (wrote < 0 && is_busy())
			continue;
		if (wrote <= 0)
			fail("write");
		done += wrote;
	}
}

static void do_read(int file, size_t from, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t got = pread(file, buffer + done, length - done, base + from + done);
		if (got < 0 && is_busy())
			continue;
		if (got <= 0)
			fail("read");
		done += got;
	}
	compare(buffer, from, length);
}

static void read_some(int file, size_t most, size_t unit)
{
	size_t from, length;
	choose(most, unit, &from, &length);
	do_read(file, from, length);
}

static void through_mapping(int writes)
{
	size_t from, length;
	choose(BUFFERED_MOST, PAGE, &from, &length);
	unsigned char *map;
	while ((map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, cached, base + from)) == MAP_FAILED)
		if (!is_busy())
			fail("mmap");
	for (int count = writes ? 1 + next(4) : 0; count > 0; count--) {
		size_t at = next(length), bytes = 1 + next(length - at);
		fill(map + at, from + at, bytes);
	}
	compare(map, from, length);
	/* Linux's NFS client does not look for changed mappings before direct reads and writes: only msync makes them seen. */
	if (writes && msync(map, length, MS_SYNC) != 0)
		fail("msync");
	if (munmap(map, length) != 0)
		fail("munmap");
}

static void check_size(void)
{
	struct stat now;
	if (fstat(cached, &now) != 0 || now.st_size != file_size)
		fail("another size");
}

static void truncations(void)
{
	if (ftruncate(cached, file_size) != 0)
		fail("truncate to the same size");
	if (ftruncate(cached, file_size - 1 - next(size)) == 0 || ftruncate(cached, file_size + 1) == 0)
		fail("truncate to another size succeeded");
	if (fallocate(cached, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, base, PAGE) == 0)
		fail("punching a hole succeeded");
	check_size();
}

static void operate(void)
{
	switch (next(14)) {
	case 0: case 1: doing = "cached write"; do_write(cached, BUFFERED_MOST, 1); break;
	case 2: case 3: doing = "cached read"; read_some(cached, BUFFERED_MOST, 1); break;
	case 4: case 5: case 6: doing = "direct write"; do_write(direct, DIRECT_MOST, SECTOR); break;
	case 7: case 8: doing = "direct read"; read_some(direct, DIRECT_MOST, SECTOR); break;
	case 9: doing = "mapped write"; through_mapping(1); break;
	case 10: doing = "mapped read"; through_mapping(0); break;
	case 11: doing = "truncate"; truncations(); break;
	case 12:
		doing = "fsync";
		if ((next(2) == 0 ? fsync(cached) : fdatasync(cached)) != 0)
			fail("fsync");
		break;
	default:
		doing = "open again";
		if (next(2) == 0 && (fsync(cached) != 0 || posix_fadvise(cached, base, size, POSIX_FADV_DONTNEED) != 0))
			fail("drop the cache");
		if (next(4) == 0)
			reopen();
	}
	operations++;
}

static void read_original(const char *original)
{
	int file = open(original, O_RDONLY);
	for (size_t done = 0; done < size;) {
		ssize_t got = pread(file, model + done, size - done, base + done);
		if (got <= 0)
			fail("read the original");
		done += got;
	}
	close(file);
}

int main(int count, char **arguments)
{
	if (count != 7)
		return 2;
	path = arguments[1];
	base = atoll(arguments[2]);
	size = atoll(arguments[3]);
	state = strtoull(arguments[4], NULL, 10) * 0x9e3779b97f4a7c15ULL + 1;
	time_t end = time(NULL) + atoll(arguments[5]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	model = malloc(size);
	if (model == NULL || posix_memalign((void **)&buffer, PAGE, DIRECT_MOST) != 0)
		fail("memory");
	reopen();
	struct stat now;
	if (fstat(cached, &now) != 0)
		fail("stat");
	file_size = now.st_size;
	read_original(arguments[6]);
	signal(SIGTERM, end_now);
	while (time(NULL) < end && !told_to_end)
		operate();
	doing = "end";
	if (fsync(cached) != 0)
		fail("fsync");
	reopen();
	for (size_t at = 0; at < size; at += LAST_READ)
		do_read(direct, at, size - at < LAST_READ ? size - at : LAST_READ);
	printf("EXERCISED %llu\n", (unsigned long long)operations);
	return 0;
}
