// How C functions report C++ exceptions: they return 0 on success; otherwise `last_error` holds the message of this
// thread. Each library has its own.

#pragma once

#include <c10/util/Exception.h>

#include <string>

namespace {

thread_local std::string last_error;

template <typename F> int guarded(F f) {
  try {
    f();
    return 0;
  } catch (const c10::Error &error) {
    last_error = error.what_without_backtrace();
  } catch (const std::exception &error) {
    last_error = error.what();
  }
  return 1;
}

} // namespace
