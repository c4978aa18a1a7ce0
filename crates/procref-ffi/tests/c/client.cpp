// The header in C++17. `client DIR SERVICE.PY` acquires the service, prints its pid, and releases it. With `throw` as a third
// argument, the callback throws an exception.

#include <procref.h>

#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

struct Free {
    void operator()(procref_service *service) const { procref_service_free(service); }
    void operator()(procref_handle *handle) const { procref_release(handle, nullptr); }
    void operator()(procref_error *error) const { procref_error_free(error); }
};
template <class T> using Owned = std::unique_ptr<T, Free>;

template <class F> void call(F function)
{
    procref_error *error = nullptr;
    function(&error);
    if (Owned<procref_error> owned{error})
        throw std::runtime_error(procref_error_message(owned.get()));
}

} // namespace

int main(int argc, char **argv)
try {
    if (argc != 3 && argc != 4)
        throw std::runtime_error("usage: client DIR SERVICE.PY [throw]");
    const std::string dir = argv[1], log = dir + "/log", run = dir + "/run";
    const char *const words[] = {"python3", argv[2], log.c_str(), "{port}", nullptr};

    Owned<procref_service> service;
    call([&](procref_error **error) { service.reset(procref_service_new("test", words, error)); });
    call([&](procref_error **error) { procref_service_set(service.get(), "runtime-dir", run.c_str(), error); });

    std::string prepared;
    const auto on_ready = [](const procref_handle *handle, void *data) noexcept {
        *static_cast<std::string *>(data) = "port " + std::to_string(procref_handle_port(handle));
        return 0;
    };
    const auto throws = [](const procref_handle *, void *) -> int { throw std::runtime_error("from the callback"); };
    call([&](procref_error **error) {
        if (argc == 4)
            procref_service_on_ready(service.get(), throws, nullptr, nullptr, error);
        else
            procref_service_on_ready(service.get(), on_ready, &prepared, nullptr, error);
    });

    Owned<procref_handle> handle;
    call([&](procref_error **error) {
        procref_handle *acquired;
        procref_acquire(service.get(), nullptr, &acquired, error);
        handle.reset(acquired);
    });
    if (prepared != "port " + std::to_string(procref_handle_port(handle.get())))
        throw std::runtime_error("on_ready was not called: " + prepared);
    std::cout << procref_handle_pid(handle.get()) << '\n';
    handle.reset();
    call([&](procref_error **error) { procref_wait_stopped(service.get(), 30000, nullptr, error); });
    return 0;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
