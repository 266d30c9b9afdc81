// The functions through which Python calls a kernel compiled for this CPU; included after the kernel's source.
#pragma once

#include <csignal>
#include <cstring>
#include <iterator>
#include <new>
#if RACES
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "emulation.h"

// The sanitizer is loaded into a process that started without it, so its own allocator must not be used.
void* operator new(size_t size) {
    if (void* memory = std::malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

extern "C" const char* __asan_default_options() {
    return "verify_asan_link_order=0:detect_leaks=0:detect_stack_use_after_return=0:halt_on_error=0:log_path=/dev/null:"
           "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0";
}

namespace {

// The sanitizer's report in one line, as the failure of the launch: what, and where.
void take_report(const char* report) {
    const char* what = std::strstr(report, "AddressSanitizer: ");
    const char* where = std::strstr(report, " in ");
    if (!what || !where || !emulation::failure.empty()) return;
    what += std::strlen("AddressSanitizer: ");
    emulation::failure = std::string(what, std::strcspn(what, " \n")) + std::string(where, std::strcspn(where, "\n"));
}

// A crash ends the launch, not the process. Undefined behaviour that the sanitizer told of before says more.
[[maybe_unused]] void take_crash(int signal) {
    if (emulation::group && emulation::current) emulation::fail(std::string("a crash: ") + strsignal(signal));
    std::signal(signal, SIG_DFL);
    std::raise(signal);
}

#if defined(__SANITIZE_ADDRESS__)
__attribute__((constructor)) void hear_the_sanitizer() { __asan_set_error_report_callback(take_report); }

// While it lives, crashes are the launch's.
class Crashes {
  public:
    Crashes() {
        struct sigaction taken = {};
        taken.sa_handler = take_crash;
        taken.sa_flags = SA_NODEFER; // the handler does not return
        for (size_t k = 0; k < std::size(SIGNALS); ++k) sigaction(SIGNALS[k], &taken, &before[k]);
    }
    ~Crashes() {
        for (size_t k = 0; k < std::size(SIGNALS); ++k) sigaction(SIGNALS[k], &before[k], nullptr);
    }

  private:
    static constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction before[std::size(SIGNALS)];
};
#else
[[maybe_unused]] void (*const unused)(const char*) = take_report;
#endif

int answer(const std::string& text, char* buffer, int size) {
    return std::snprintf(buffer, static_cast<size_t>(size), "%s", text.c_str());
}

#if RACES

// In a child process, so that the launch changes nothing here: another one, under sanitizers, does the work.
std::string aside(const std::function<std::string()>& launch) {
    int ends[2];
    if (pipe(ends)) return "no pipe to a child process";
    const pid_t child = fork();
    if (child == 0) {
        for (const int crash : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) signal(crash, SIG_DFL);
        const std::string found = launch();
        (void)!write(ends[1], found.data(), found.size());
        std::_Exit(0);
    }
    close(ends[1]);
    std::string found;
    char part[4096];
    for (ssize_t size; (size = read(ends[0], part, sizeof part)) > 0;) found.append(part, static_cast<size_t>(size));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return child < 0 ? "no child process" : WIFSIGNALED(status) ? "a crash" : found;
}

#else

std::string aside(const std::function<std::string()>& launch) {
#if defined(__SANITIZE_ADDRESS__)
    const Crashes crashes;
#endif
    return launch();
}

#endif

} // namespace

#if defined(__SANITIZE_ADDRESS__)
// Undefined behaviour, such as an address that is not aligned, fails its launch; the sanitizer prints the rest.
extern "C" void __ubsan_get_current_report_data(const char** kind, const char** message, const char** file,
                                                unsigned* line, unsigned* column, char** address);
extern "C" void __ubsan_on_report() {
    const char *kind, *message, *file;
    unsigned line, column;
    char* address;
    __ubsan_get_current_report_data(&kind, &message, &file, &line, &column, &address);
    if (emulation::failure.empty()) emulation::failure = std::string(kind) + " in " + file + ":" + std::to_string(line);
}
#endif

#define HOST_SIDE(kernel)                                                                                             \
    extern "C" int kernel##_signature(char* buffer, int size) {                                                       \
        return answer(emulation::signature(kernel), buffer, size);                                                    \
    }                                                                                                                 \
    extern "C" int kernel##_launch(void** arguments, const emulation::Launch* launch, char* buffer, int size) {       \
        return answer(aside([=] { return emulation::call(kernel, arguments, *launch); }), buffer, size);                                     \
    }
