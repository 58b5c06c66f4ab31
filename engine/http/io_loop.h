// One thread's event loop: timers, file descriptors and, through HttpClient and HttpServer,
// connections.
//
// Room:      warm and cold.
// Threads:   everything on the thread that calls Run, but Post and Stop, which any thread may call.
// Ownership: callbacks are dropped, not called, when the loop is destroyed.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "engine/base/time.h"

namespace boost::asio {
class io_context;
}  // namespace boost::asio

namespace mobula {

class IoLoop {
 public:
  IoLoop();
  ~IoLoop();
  IoLoop(const IoLoop&) = delete;
  IoLoop& operator=(const IoLoop&) = delete;

  // Runs callbacks until Stop.
  void Run();
  // Runs what is ready and waits at most until `deadline` for more. For tests and the end of a
  // drain.
  void RunUntil(Time deadline);
  void Stop();

  void Post(std::function<void()> f);

  // A timer that can be set again and again; setting replaces the earlier time.
  class Timer {
   public:
    explicit Timer(IoLoop* loop);
    ~Timer();
    void Set(Time at, std::function<void()> f);
    void Cancel();

   private:
    class Impl;
    std::unique_ptr<Impl> impl_;
  };

  // An eventfd of this loop: Notify, from any thread, makes the loop call `f` once per wake-up,
  // however often it was notified meanwhile.
  class Waker {
   public:
    Waker(IoLoop* loop, std::function<void()> f);
    ~Waker();
    void Notify() noexcept;

   private:
    class Impl;
    std::shared_ptr<Impl> impl_;
  };

  // For the files of this folder only.
  boost::asio::io_context& context();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mobula
