//go:build linux && cgo

#include <fcntl.h>
#include <signal.h>

#include "sys.h"

int failure;

// The program's entry point, before the C library's: glibc asks the processor 68 times what it is (CPUID), which takes more than
// half a millisecond on a virtual machine, where the hypervisor answers. stage0 gets what the kernel has left on the stack. If
// it returns, the C library starts as ever; what the dynamic linker has left for that in a register is kept.
#if defined(__x86_64__)
__asm__(".pushsection .text\n"
	".globl stage0entry\n.type stage0entry, @function\nstage0entry:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	push %rdx\n"
	"	push %rdx\n" // the stack is aligned to 16 bytes at a call
	"	call stage0\n"
	"	pop %rdx\n"
	"	pop %rdx\n"
	"	jmp _start\n"
	".size stage0entry, . - stage0entry\n"
	".globl stage0_restorer\n.hidden stage0_restorer\n.type stage0_restorer, @function\nstage0_restorer:\n"
	"	mov $15, %eax\n" // rt_sigreturn
	"	syscall\n"
	".size stage0_restorer, . - stage0_restorer\n"
	".popsection");
#else
__asm__(".pushsection .text\n"
	".globl stage0entry\n.type stage0entry, %function\nstage0entry:\n"
	"	str x0, [sp, #-16]!\n"
	"	add x0, sp, #16\n"
	"	bl stage0\n"
	"	ldr x0, [sp], #16\n"
	"	b _start\n"
	".size stage0entry, . - stage0entry\n"
	".globl stage0_restorer\n.hidden stage0_restorer\n.type stage0_restorer, %function\nstage0_restorer:\n"
	"	mov x8, #139\n" // rt_sigreturn
	"	svc 0\n"
	".size stage0_restorer, . - stage0_restorer\n"
	".popsection");
#endif
enum { RESTORER = 0x04000000 }; // SA_RESTORER, which <signal.h> keeps to itself
extern void stage0_restorer(void) __attribute__((visibility("hidden")));

// The empty asm keeps the compiler from seeing what these loops are, and calling them for it.
#define AS_IT_STANDS __asm__ volatile("")

void *stage0_memcpy(void *to, const void *from, size_t n)
{
	char *t = to;
	const char *f = from;
	for (size_t i = 0; i < n; i++) {
		size_t at = t <= f ? i : n - 1 - i;
		t[at] = f[at];
		AS_IT_STANDS;
	}
	return to;
}

void *stage0_memset(void *to, int byte, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		((char *)to)[i] = byte;
		AS_IT_STANDS;
	}
	return to;
}

int stage0_memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *x = a, *y = b;
	for (size_t i = 0; i < n; i++) {
		if (x[i] != y[i])
			return x[i] - y[i];
		AS_IT_STANDS;
	}
	return 0;
}

long on_signal(int sig, void (*handler)(int))
{
	struct action act = { .handler = handler, .flags = RESTORER, .restorer = stage0_restorer };
	return sys(rt_sigaction, sig, &act, NULL, sizeof act.mask);
}

long set_blocked(unsigned long mask) { return sys(rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask); }

void exit_with(int code)
{
	for (;;)
		sys(exit_group, code);
}

int open_file(const char *path, int flags) { return sys(openat, AT_FDCWD, path, flags | O_CLOEXEC, 0); }

int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

size_t length(const char *s)
{
	size_t n = 0;
	while (s[n]) {
		n++;
		AS_IT_STANDS;
	}
	return n;
}

unsigned long parsed(const char *decimal)
{
	unsigned long n = 0;
	for (; *decimal >= '0' && *decimal <= '9'; decimal++)
		n = n * 10 + (*decimal - '0');
	return n;
}

char *append(char *to, const char *text)
{
	while (*text) {
		*to++ = *text++;
		AS_IT_STANDS;
	}
	*to = 0;
	return to;
}

char *append_number(char *to, unsigned long n)
{
	char digits[24], *d = digits + sizeof digits - 1;
	*d = 0;
	do
		*--d = '0' + n % 10;
	while (n /= 10);
	return append(to, d);
}
