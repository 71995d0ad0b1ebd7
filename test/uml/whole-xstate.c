/*
 * Preloaded into linux.uml: lets kernels before 6.11 run on processors whose saved state is larger than they know (AMX: 11 KiB).
 *
 * User-mode Linux saves and restores a process's extended state through PTRACE_GETREGSET and PTRACE_SETREGSET in a buffer of
 * 2.6 KiB. The host fills a short buffer as far as it goes, but takes back a whole state only (EFAULT otherwise), and the first
 * process dies. So a short state is laid over the whole one that the process has before it is set.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

typedef long (*ptrace_call)(enum __ptrace_request, int, void *, void *);

long ptrace(enum __ptrace_request request, ...)
{
	static ptrace_call next;
	static unsigned char whole[64 * 1024];
	va_list arguments;
	va_start(arguments, request);
	int pid = va_arg(arguments, int);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);
	if (!next)
		next = (ptrace_call)dlsym(RTLD_NEXT, "ptrace");

	if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE) {
		const struct iovec *given = data;
		struct iovec all = {whole, sizeof whole};
		if (next(PTRACE_GETREGSET, pid, address, &all) == 0 && given->iov_len < all.iov_len) {
			memcpy(whole, given->iov_base, given->iov_len);
			return next(PTRACE_SETREGSET, pid, address, &all);
		}
	}
	return next(request, pid, address, data);
}
