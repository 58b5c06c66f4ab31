// The event loop over Boost.Asio: this folder is the only door to it. Tested by
// tests/unit/engine/http/io_loop_test.cc.
#include "engine/http/io_loop.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/unique_fd.h"

namespace mobula {

namespace asio = boost::asio;
using boost::system::error_code;

class IoLoop::Impl {
 public:
  // Not BOOST_ASIO_CONCURRENCY_HINT_UNSAFE: Post and the resolver's thread come from outside.
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
};

IoLoop::IoLoop() : impl_(std::make_unique<Impl>()) {}
IoLoop::~IoLoop() = default;

void IoLoop::Run() {
  impl_->context.run();
  // Not before: a Stop that came before Run must not be forgotten.
  impl_->context.restart();
}

void IoLoop::RunUntil(Time deadline) {
  impl_->context.restart();
  impl_->context.run_until(deadline);
}

void IoLoop::Stop() { impl_->context.stop(); }

void IoLoop::Post(std::function<void()> f) { asio::post(impl_->context, std::move(f)); }

boost::asio::io_context& IoLoop::context() { return impl_->context; }

// --- Timer
// ---------------------------------------------------------------------------------------------

class IoLoop::Timer::Impl {
 public:
  explicit Impl(asio::io_context& context) : timer(context) {}

  asio::steady_timer timer;
  // Tells a handler that was already queued when Set or Cancel came that it is out of date. Shared
  // with the handlers, which outlive the timer.
  std::shared_ptr<uint64_t> turn = std::make_shared<uint64_t>(0);
};

IoLoop::Timer::Timer(IoLoop* loop) : impl_(std::make_unique<Impl>(loop->context())) {}

IoLoop::Timer::~Timer() { Cancel(); }

void IoLoop::Timer::Set(Time at, std::function<void()> f) {
  const uint64_t mine = ++*impl_->turn;
  impl_->timer.expires_at(at);
  impl_->timer.async_wait([turn = impl_->turn, mine, f = std::move(f)](const error_code& error) {
    if (!error && *turn == mine) f();
  });
}

void IoLoop::Timer::Cancel() {
  ++*impl_->turn;
  impl_->timer.cancel();
}

// --- Waker
// ---------------------------------------------------------------------------------------------

class IoLoop::Waker::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(asio::io_context& context, std::function<void()> f)
      : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), event_(context), f_(std::move(f)) {
    CHECK(fd_.valid());
    event_.assign(fd_.get());
  }
  ~Impl() { static_cast<void>(event_.release()); }

  void Wait() {
    event_.async_wait(asio::posix::stream_descriptor::wait_read,
                      [self = shared_from_this()](const error_code& error) {
                        if (error || self->closed_) return;
                        self->Woken();
                      });
  }

  void Notify() noexcept {
    if (pending_.exchange(true, std::memory_order_acq_rel)) return;
    const uint64_t one = 1;
    while (::write(fd_.get(), &one, sizeof one) < 0 && errno == EINTR) {
    }
  }

  void Close() {
    closed_ = true;
    event_.cancel();
  }

 private:
  void Woken() {
    uint64_t count = 0;
    while (::read(fd_.get(), &count, sizeof count) < 0 && errno == EINTR) {
    }
    // Cleared before f_ looks for work: what is notified from here on wakes the loop again.
    pending_.exchange(false, std::memory_order_acq_rel);
    f_();
    if (!closed_) Wait();
  }

  const UniqueFd fd_;
  asio::posix::stream_descriptor event_;
  const std::function<void()> f_;
  std::atomic<bool> pending_{false};
  bool closed_ = false;
};

IoLoop::Waker::Waker(IoLoop* loop, std::function<void()> f)
    : impl_(std::make_shared<Impl>(loop->context(), std::move(f))) {
  impl_->Wait();
}

IoLoop::Waker::~Waker() { impl_->Close(); }

void IoLoop::Waker::Notify() noexcept { impl_->Notify(); }

}  // namespace mobula
