// Compiles cuda/kernels.cu with NVRTC, loaded from a folder; run by the build.
//
//     nvrtc <folder of libnvrtc.so.13> <folder of kernels.cu> <sm_90 or compute_80> <out>
//
// For `sm_..`, writes a cubin, which runs on that generation of GPUs; for `compute_..`, PTX, which the driver compiles for any GPU
// of that generation or later.

#include <dlfcn.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// An NVIDIA library; it stays loaded.
void *load(const std::string &path) {
  auto library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!library)
    throw std::runtime_error(dlerror());
  return library;
}

// The functions in use, as declared in NVRTC's header: each returns 0 on success.
struct Nvrtc {
  using Program = void *;

  explicit Nvrtc(const std::string &folder) {
    // NVRTC looks for this library by name, which succeeds once it is loaded.
    load(folder + "/libnvrtc-builtins.so.13.0");
    library = load(folder + "/libnvrtc.so.13");
    find(create, "nvrtcCreateProgram");
    find(compile, "nvrtcCompileProgram");
    find(text_of, "nvrtcGetErrorString");
  }

  void check(int result) const {
    if (result != 0)
      throw std::runtime_error(std::string("NVRTC: ") + text_of(result));
  }

  // An output of the compilation: "ProgramLog", "CUBIN" or "PTX".
  std::string get(Program program, const std::string &what) const {
    int (*size_of)(Program, size_t *);
    int (*copy)(Program, char *);
    find(size_of, "nvrtcGet" + what + "Size");
    find(copy, "nvrtcGet" + what);
    size_t size = 0;
    check(size_of(program, &size));
    std::string text(size, '\0');
    check(copy(program, text.data()));
    return text;
  }

  int (*create)(Program *, const char *source, const char *name, int headers, const char *const *, const char *const *);
  int (*compile)(Program, int count, const char *const *options);

private:
  template <typename F> void find(F &function, const std::string &name) const {
    function = reinterpret_cast<F>(dlsym(library, name.c_str()));
    if (!function)
      throw std::runtime_error("libnvrtc.so.13 has no " + name);
  }

  void *library;
  const char *(*text_of)(int);
};

std::string read(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()))
    throw std::runtime_error(path + " can't be read");
  return text.str();
}

std::string compile(const std::string &nvrtc_folder, const std::string &folder, const std::string &target) {
  Nvrtc nvrtc(nvrtc_folder);
  auto source = read(folder + "/kernels.cu");
  Nvrtc::Program program;
  nvrtc.check(nvrtc.create(&program, source.c_str(), "kernels.cu", 0, nullptr, nullptr));
  auto architecture = "--gpu-architecture=" + target, include = "--include-path=" + folder;
  std::vector<const char *> options{architecture.c_str(), include.c_str(), "--std=c++17"};
  auto result = nvrtc.compile(program, static_cast<int>(options.size()), options.data());
  // Errors or warnings.
  std::cerr << nvrtc.get(program, "ProgramLog").c_str();
  nvrtc.check(result);
  return nvrtc.get(program, target.rfind("sm_", 0) == 0 ? "CUBIN" : "PTX");
}

} // namespace

int main(int count, char **arguments) {
  try {
    if (count != 5)
      throw std::runtime_error("usage: nvrtc <NVRTC's folder> <sources' folder> <target> <out>");
    auto code = compile(arguments[1], arguments[2], arguments[3]);
    std::ofstream out(arguments[4], std::ios::binary);
    if (!out.write(code.data(), static_cast<std::streamsize>(code.size())) || !out.flush())
      throw std::runtime_error(std::string(arguments[4]) + " can't be written");
    return EXIT_SUCCESS;
  } catch (const std::exception &error) {
    std::cerr << error.what() << std::endl;
    return EXIT_FAILURE;
  }
}
