// System calls and the little else that stage0 has of its own: it runs before the C library, and without it. A program that is
// position-independent and static moves itself only when that starts, so stage0 has no address in its data, and what is
// declared here is hidden: else the compiler would take its address from a table.
#ifndef SYS_H
#define SYS_H

#include <asm/unistd.h>
#include <linux/errno.h> // and not <errno.h>, whose errno is the C library's
#include <stddef.h>

#ifndef __NR_close_range
#define __NR_close_range 436 // not in the headers of Linux before 5.9; the same on every machine
#endif

#pragma GCC visibility push(hidden)

// failure is the errno of the last system call that has failed.
extern int failure;

// call is inlined, so that the child of a vfork returns from nothing.
static inline __attribute__((always_inline)) long call(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number, result __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(result) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
#else
#error "stage0 knows amd64 and arm64 only"
#endif
	if (result < 0) {
		failure = -result;
		return -1;
	}
	return result;
}

// sys(name, argument...) is what syscall(SYS_name, argument...) is with a C library, with failure for errno.
#define sys(name, ...) sys_with_six(__NR_##name, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define sys_with_six(number, a, b, c, d, e, f, ...) call(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

// What the compiler makes calls of by itself must not become the C library's, whose functions are chosen when it starts.
__asm__("memcpy = stage0_memcpy\nmemmove = stage0_memcpy\nmemset = stage0_memset\nmemcmp = stage0_memcmp\nstrlen = length");

// The kernel's struct sigaction, where <signal.h> has the C library's. Others, such as struct stat, are the same on both machines.
struct action {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	unsigned long mask;
};
long on_signal(int sig, void (*handler)(int));
// set_blocked says which signals wait, signal 1 being the lowest bit.
long set_blocked(unsigned long mask);

void exit_with(int code) __attribute__((noreturn));
int open_file(const char *path, int flags);
int same(const char *a, const char *b);
size_t length(const char *s);
unsigned long parsed(const char *decimal); // up to the first character that is no digit; of Go's making, so in range
// append and append_number return the end of the text, where there is a NUL.
char *append(char *to, const char *text);
char *append_number(char *to, unsigned long n);

#pragma GCC visibility pop
#endif
