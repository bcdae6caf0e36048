// A thread of a block: a stack of its own, entered and left by switching stacks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

// Bytes of a fiber's stack. Its lowest page can't be touched, so that a stack that grows too far is noticed.
constexpr size_t STACK = 256 << 10;
constexpr size_t PAGE = 4096;

#if defined(__x86_64__)

// Puts the registers that a call preserves down on this stack, its top into `*from`, and takes up the stack `to`.
extern "C" void emulator_switch(void** from, void* to);
asm(R"(
.text
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

struct Context {
    void* top = nullptr;

    void begin(char* stack, void (*entry)()) {
        // six registers, the address that `ret` jumps to, and a place that keeps the stack aligned as after a call
        void** top_of_stack = reinterpret_cast<void**>(stack + STACK) - 8;
        for (int i = 0; i < 6; i++) top_of_stack[i] = nullptr;
        top_of_stack[6] = reinterpret_cast<void*>(entry);
        top_of_stack[7] = nullptr;
        top = top_of_stack;
    }

    static void change(Context& from, Context& to) { emulator_switch(&from.top, to.top); }
};

#else

struct Context {
    ucontext_t saved;

    void begin(char* stack, void (*entry)()) {
        getcontext(&saved);
        saved.uc_stack.ss_sp = stack;
        saved.uc_stack.ss_size = STACK;
        saved.uc_link = nullptr;
        makecontext(&saved, entry, 0);
    }

    static void change(Context& from, Context& to) { swapcontext(&from.saved, &to.saved); }
};

#endif

// The stack of fiber `i`; made when it is first wanted, and used again by every block.
inline char* stack_of(unsigned i) {
    static char* stacks[1024];
    if (!stacks[i]) {
        void* memory = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory, PAGE, PROT_NONE) != 0) {
            perror("emulator: no memory for the stack of a thread");
            abort();
        }
        stacks[i] = static_cast<char*>(memory);
    }
    return stacks[i];
}

}  // namespace emulator
