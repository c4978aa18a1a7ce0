/* Loads the library at run time, and unloads it. `plugin LIBRARY DIR SERVICE.PY` prints the pid of the service. */
#include <dlfcn.h>
#include <procref.h>
#include <stdio.h>
#include <stdlib.h>

static void *library;

static void *symbol(const char *name)
{
    void *found = dlsym(library, name);
    if (!found) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return found;
}

/* C has no conversion from `void *` to a pointer to a function, but POSIX demands that this works. */
#define LOAD(name)                      \
    do {                                \
        void *found = symbol(#name);    \
        __typeof__(name) **to = &my_##name; \
        *(void **)(void *)to = found;   \
    } while (0)

static __typeof__(procref_abi_version) *my_procref_abi_version;
static __typeof__(procref_service_new) *my_procref_service_new;
static __typeof__(procref_service_set) *my_procref_service_set;
static __typeof__(procref_service_free) *my_procref_service_free;
static __typeof__(procref_acquire) *my_procref_acquire;
static __typeof__(procref_handle_pid) *my_procref_handle_pid;
static __typeof__(procref_release) *my_procref_release;

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    LOAD(procref_abi_version);
    LOAD(procref_service_new);
    LOAD(procref_service_set);
    LOAD(procref_service_free);
    LOAD(procref_acquire);
    LOAD(procref_handle_pid);
    LOAD(procref_release);
    if (my_procref_abi_version() != PROCREF_ABI_VERSION)
        return 1;

    char log[4096], run[4096];
    snprintf(log, sizeof log, "%s/log", argv[2]);
    snprintf(run, sizeof run, "%s/run", argv[2]);
    const char *const words[] = {"python3", argv[3], log, "{port}", NULL};
    procref_service *service = my_procref_service_new("test", words, NULL);
    procref_handle *handle;
    if (my_procref_service_set(service, "runtime-dir", run, NULL) || my_procref_acquire(service, NULL, &handle, NULL))
        return 1;
    printf("%u\n", my_procref_handle_pid(handle));
    my_procref_service_free(service);
    if (my_procref_release(handle, NULL))
        return 1;
    return dlclose(library);
}
