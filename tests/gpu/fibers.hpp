// Fibers: many programs on one thread, each with a stack of its own, switched by hand.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

#if defined(__SANITIZE_ADDRESS__)
#define SIGNSPLIT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIGNSPLIT_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define SIGNSPLIT_TSAN 1
#endif
#endif
#if defined(SIGNSPLIT_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(SIGNSPLIT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace signsplit::test {

/// A program that runs until it yields. An exception must not leave it.
class Fiber {
 public:
  static constexpr std::size_t kStackBytes = 256 * 1024;

  explicit Fiber(std::function<void()> program) : program_(std::move(program)), stack_(new std::byte[kStackBytes]) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_.get();
    context_.uc_stack.ss_size = kStackBytes;
    context_.uc_link = nullptr;
    const auto self = reinterpret_cast<std::uintptr_t>(this);
    makecontext(&context_, reinterpret_cast<void (*)()>(&Fiber::entry), 2, static_cast<unsigned>(self & 0xffffffffu),
                static_cast<unsigned>(self >> 32));
#if defined(SIGNSPLIT_TSAN)
    tsan_fiber_ = __tsan_create_fiber(0);
#endif
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber() {
#if defined(SIGNSPLIT_TSAN)
    __tsan_destroy_fiber(tsan_fiber_);
#endif
  }

  [[nodiscard]] bool done() const { return done_; }

  /// Called outside of fibers: runs the program until it yields or ends.
  void resume() {
#if defined(SIGNSPLIT_TSAN)
    tsan_caller_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tsan_fiber_, 0);
#endif
#if defined(SIGNSPLIT_ASAN)
    __sanitizer_start_switch_fiber(&caller_fake_stack_, stack_.get(), kStackBytes);
#endif
    swapcontext(&caller_, &context_);
#if defined(SIGNSPLIT_ASAN)
    __sanitizer_finish_switch_fiber(caller_fake_stack_, nullptr, nullptr);
#endif
  }

  /// Called inside the fiber: back to who resumed it.
  void yield() { leave(false); }

 private:
  static void entry(unsigned low, unsigned high) {
    auto* self = reinterpret_cast<Fiber*>(static_cast<std::uintptr_t>(low) | static_cast<std::uintptr_t>(high) << 32);
#if defined(SIGNSPLIT_ASAN)
    __sanitizer_finish_switch_fiber(nullptr, &self->caller_stack_, &self->caller_stack_bytes_);
#endif
    self->program_();
    self->done_ = true;
    self->leave(true);
  }
  void leave([[maybe_unused]] bool for_good) {
#if defined(SIGNSPLIT_TSAN)
    __tsan_switch_to_fiber(tsan_caller_, 0);
#endif
#if defined(SIGNSPLIT_ASAN)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack_, caller_stack_, caller_stack_bytes_);
#endif
    swapcontext(&context_, &caller_);
#if defined(SIGNSPLIT_ASAN)
    __sanitizer_finish_switch_fiber(fake_stack_, &caller_stack_, &caller_stack_bytes_);
#endif
  }

  std::function<void()> program_;
  std::unique_ptr<std::byte[]> stack_;
  ucontext_t context_{}, caller_{};
  bool done_ = false;
#if defined(SIGNSPLIT_ASAN)
  void* fake_stack_ = nullptr;
  void* caller_fake_stack_ = nullptr;
  const void* caller_stack_ = nullptr;
  std::size_t caller_stack_bytes_ = 0;
#endif
#if defined(SIGNSPLIT_TSAN)
  void* tsan_fiber_ = nullptr;
  void* tsan_caller_ = nullptr;
#endif
};

}  // namespace signsplit::test
