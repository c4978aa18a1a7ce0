/* The tests' client. `client TEST DIR SERVICE.PY`: the log of the service is DIR/log, its runtime directory DIR/run. */
#define _POSIX_C_SOURCE 200809L

#include <assert.h>
#include <errno.h>
#include <procref.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#undef NDEBUG
#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);       \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

static char log_path[4096], run_path[4096];
static const char *program;

static void check_status(int line, procref_status status, procref_status expected, procref_error *error)
{
    if (status != expected) {
        fprintf(stderr, "%s:%d: status %d, expected %d: %s\n", __FILE__, line, (int)status, (int)expected,
                error ? procref_error_message(error) : "no error");
        exit(1);
    }
    CHECK((error == NULL) == (status == PROCREF_OK));
    if (error) {
        CHECK(procref_error_status(error) == status);
        CHECK(strlen(procref_error_message(error)) > 10);
    }
    procref_error_free(error);
}

/* The out parameter has a value that must not be read. */
#define EXPECT(expected, call)                                                    \
    do {                                                                          \
        procref_error *error = (procref_error *)(uintptr_t)1;                     \
        procref_status status = (call);                                           \
        check_status(__LINE__, status, expected, error);                          \
    } while (0)
#define OK(call) EXPECT(PROCREF_OK, call)

static void set(procref_service *service, const char *key, const char *value)
{
    OK(procref_service_set(service, key, value, &error));
}

static procref_service *new_service(const char *port)
{
    const char *const argv[] = {"python3", program, log_path, port, NULL};
    procref_error *failure;
    procref_service *service = procref_service_new("test", argv, &failure);
    CHECK(service && !failure);
    set(service, "runtime-dir", run_path);
    return service;
}

static bool status_has(procref_service *service, const char *part)
{
    char *json = procref_status_json(service, NULL);
    CHECK(json);
    bool found = strstr(json, part) != NULL;
    if (!found)
        fprintf(stderr, "%s\n", json);
    procref_string_free(json);
    return found;
}

static void release_and_wait(procref_service *service, procref_handle *handle)
{
    OK(procref_release(handle, &error));
    OK(procref_wait_stopped(service, 30000, NULL, &error));
    CHECK(status_has(service, "\"state\":\"absent\""));
}

/* Prints the instance, holds it until the end of standard input, and releases it. */
static void hold(void)
{
    procref_service *service = new_service("{port}");
    procref_handle *handle;
    OK(procref_acquire(service, NULL, &handle, &error));
    procref_service_free(service);
    printf("%u %u %u\n", procref_handle_pid(handle), procref_handle_port(handle), procref_handle_generation(handle));
    fflush(stdout);
    while (getchar() != EOF)
        ;
    OK(procref_release(handle, &error));
}

struct prepared {
    int calls, frees, result;
    uint32_t pid;
    uint16_t port;
};

static int prepare(const procref_handle *handle, void *data)
{
    struct prepared *prepared = data;
    prepared->calls++;
    prepared->pid = procref_handle_pid(handle);
    prepared->port = procref_handle_port(handle);
    CHECK(procref_handle_generation(handle) == 0);
    EXPECT(PROCREF_INVALID, procref_handle_wait_dead(handle, 0, NULL, &error));
    return prepared->result;
}

static void free_prepared(void *data)
{
    ((struct prepared *)data)->frees++;
}

/* Uses each function as a program would. */
static void every_function(void)
{
    CHECK(procref_abi_version() == PROCREF_ABI_VERSION);
    CHECK(strchr(procref_version(), '.'));

    struct prepared prepared = {0};
    procref_service *service = new_service("{port}");
    set(service, "linger", "0s");
    set(service, "grace", "5s");
    set(service, "env.WORD", "value");
    set(service, "export.SERVICE_URL", "tcp://127.0.0.1:{port}");
    OK(procref_service_on_ready(service, prepare, &prepared, free_prepared, &error));

    procref_handle *handle, *second;
    OK(procref_try_join(service, &handle, &error));
    CHECK(!handle && prepared.calls == 0);
    OK(procref_acquire(service, NULL, &handle, &error));
    CHECK(prepared.calls == 1 && prepared.frees == 0);
    CHECK(procref_handle_pid(handle) != 0 && procref_handle_pid(handle) == prepared.pid);
    CHECK(procref_handle_port(handle) != 0 && procref_handle_port(handle) == prepared.port);
    CHECK(procref_handle_generation(handle) == 1);
    CHECK(procref_handle_get(handle, "no such value") == NULL);
    CHECK(atoi(procref_handle_get(handle, "PROCREF_PORT")) == procref_handle_port(handle));
    CHECK(strncmp(procref_handle_get(handle, "SERVICE_URL"), "tcp://127.0.0.1:", 16) == 0);
    EXPECT(PROCREF_INVALID, procref_service_set(service, "linger", "1s", &error));

    procref_error *failure;
    procref_cancel *cancel = procref_cancel_new(&failure);
    CHECK(cancel && !failure);
    OK(procref_acquire(service, cancel, &second, &error));
    CHECK(procref_handle_pid(second) == procref_handle_pid(handle) && prepared.calls == 1);
    OK(procref_release(second, &error));
    OK(procref_try_join(service, &second, &error));
    CHECK(second);
    OK(procref_release(second, &error));

    procref_error *timeout;
    CHECK(procref_handle_wait_dead(handle, 0, NULL, &timeout) == PROCREF_TIMEOUT);
    CHECK(strstr(procref_error_message(timeout), "service `test`: process "));
    procref_error_free(timeout);
    EXPECT(PROCREF_TIMEOUT, procref_handle_wait_dead(handle, 20, cancel, &error));
    EXPECT(PROCREF_TIMEOUT, procref_wait_stopped(service, 20, NULL, &error));
    EXPECT(PROCREF_HELD, procref_stop(service, false, &error));
    CHECK(status_has(service, "\"clients\":1") && status_has(service, "\"state\":\"ready\""));

    OK(procref_stop(service, true, &error));
    OK(procref_handle_wait_dead(handle, -1, cancel, &error));
    OK(procref_acquire(service, NULL, &second, &error));
    CHECK(procref_handle_pid(second) != procref_handle_pid(handle) && prepared.calls == 2);
    OK(procref_release(second, &error));

    procref_cancel_now(cancel);
    EXPECT(PROCREF_CANCELLED, procref_handle_wait_dead(handle, -1, cancel, &error));
    EXPECT(PROCREF_CANCELLED, procref_acquire(service, cancel, &second, &error));
    CHECK(!second);
    procref_cancel_free(cancel);
    release_and_wait(service, handle);
    OK(procref_stop(service, false, &error));
    procref_service_free(service);
    CHECK(prepared.frees == 1);
}

/* Each mistake is an error, and no crash. */
static void mistakes(void)
{
    procref_error *failure;
    procref_handle *handle;
    const char *const none[] = {NULL}, *const python[] = {"python3", NULL}, *const bad[] = {"\xff", NULL};
    CHECK(!procref_service_new(NULL, python, &failure) && procref_error_status(failure) == PROCREF_INVALID);
    procref_error_free(failure);
    CHECK(!procref_service_new("test", none, NULL));
    CHECK(!procref_service_new("test", bad, NULL));
    CHECK(!procref_service_new("\xff", python, NULL));
    EXPECT(PROCREF_INVALID, procref_service_set(NULL, "linger", "1s", &error));
    EXPECT(PROCREF_INVALID, procref_acquire(NULL, NULL, &handle, &error));
    CHECK(!handle);
    EXPECT(PROCREF_INVALID, procref_try_join(NULL, &handle, &error));
    EXPECT(PROCREF_INVALID, procref_stop(NULL, false, &error));
    EXPECT(PROCREF_INVALID, procref_wait_stopped(NULL, 0, NULL, &error));
    EXPECT(PROCREF_INVALID, procref_handle_wait_dead(NULL, 0, NULL, &error));
    CHECK(!procref_status_json(NULL, NULL));
    CHECK(procref_handle_pid(NULL) == 0 && procref_handle_port(NULL) == 0 && procref_handle_generation(NULL) == 0);
    CHECK(!procref_handle_get(NULL, "key") && !procref_error_message(NULL));
    CHECK(procref_error_status(NULL) == PROCREF_OK);
    OK(procref_release(NULL, &error));
    procref_service_free(NULL);
    procref_error_free(NULL);
    procref_string_free(NULL);
    procref_cancel_now(NULL);
    procref_cancel_free(NULL);

    procref_service *service = new_service("{port}");
    EXPECT(PROCREF_INVALID, procref_acquire(service, NULL, NULL, &error));
    EXPECT(PROCREF_INVALID, procref_service_set(service, "lingre", "1s", &error));
    EXPECT(PROCREF_INVALID, procref_service_set(service, "linger", "soon", &error));
    EXPECT(PROCREF_INVALID, procref_service_set(service, "port", "0", &error));
    EXPECT(PROCREF_INVALID, procref_service_set(service, "env.A=B", "1", &error));
    EXPECT(PROCREF_INVALID, procref_service_set(service, "export.A=B", "1", &error));
    EXPECT(PROCREF_INVALID, procref_service_set(service, NULL, "1s", &error));
    EXPECT(PROCREF_INVALID, procref_service_set(service, "linger", NULL, &error));
    struct prepared prepared = {0};
    EXPECT(PROCREF_INVALID, procref_service_on_ready(service, NULL, &prepared, free_prepared, &error));
    EXPECT(PROCREF_INVALID, procref_service_on_ready(NULL, prepare, &prepared, free_prepared, &error));
    CHECK(prepared.frees == 2);
    prepared.result = 7;
    OK(procref_service_on_ready(service, prepare, &prepared, NULL, &error));
    CHECK(procref_acquire(service, NULL, &handle, &failure) == PROCREF_START);
    CHECK(!handle && prepared.calls == 1 && strstr(procref_error_message(failure), "the callback returned 7"));
    procref_error_free(failure);
    OK(procref_wait_stopped(service, 30000, NULL, &error));
    procref_service_free(service);

    /* Settings that the library refuses at the first use. */
    const char *const settings[][2] = {{"project", "/nonexistent"}, {"project", ""}, {"cwd", ""}, {"log", ""}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        service = new_service("{port}");
        set(service, settings[i][0], settings[i][1]);
        EXPECT(PROCREF_INVALID, procref_acquire(service, NULL, &handle, &error));
        CHECK(!handle);
        procref_service_free(service);
    }

    /* A service that can only be joined, and a program that does not exist. */
    service = procref_service_new("test", NULL, NULL);
    set(service, "runtime-dir", run_path);
    CHECK(procref_acquire(service, NULL, &handle, &failure) == PROCREF_INVALID);
    CHECK(strstr(procref_error_message(failure), "pass `argv`"));
    procref_error_free(failure);
    procref_service_free(service);
    const char *const missing[] = {"/nonexistent/program", NULL};
    service = procref_service_new("test", missing, NULL);
    set(service, "runtime-dir", run_path);
    EXPECT(PROCREF_START, procref_acquire(service, NULL, &handle, &error));
    procref_service_free(service);

    service = procref_service_new("", python, NULL);
    set(service, "runtime-dir", run_path);
    EXPECT(PROCREF_INVALID, procref_acquire(service, NULL, &handle, &error));
    procref_service_free(service);

    /* Two clients that want different versions. */
    procref_service *one = new_service("{port}"), *two = new_service("{port}");
    set(one, "fingerprint", "1");
    set(two, "fingerprint", "2");
    set(two, "mismatch", "refuse");
    OK(procref_acquire(one, NULL, &handle, &error));
    procref_handle *other;
    EXPECT(PROCREF_MISMATCH, procref_acquire(two, NULL, &other, &error));
    release_and_wait(one, handle);
    procref_service_free(one);
    procref_service_free(two);
}

static void in_child(void (*body)(void *), void *data)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body(data);
        /* Without the parent's functions at exit, and without its leak check. */
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

struct inherited {
    procref_service *service;
    procref_handle *handle;
    procref_cancel *cancel;
};

static void use_inherited(void *data)
{
    struct inherited *it = data;
    static procref_handle *own;
    procref_cancel_now(it->cancel);
    EXPECT(PROCREF_INVALID, procref_acquire(it->service, it->cancel, &own, &error));
    EXPECT(PROCREF_INVALID, procref_handle_wait_dead(it->handle, 0, NULL, &error));
    CHECK(procref_handle_pid(it->handle) != 0);
    OK(procref_release(it->handle, &error));
    CHECK(status_has(it->service, "\"clients\":1"));
    OK(procref_acquire(it->service, NULL, &own, &error));
    CHECK(status_has(it->service, "\"clients\":2"));
    /* The child exits with its reference. */
}

static void forked(void)
{
    procref_service *service = new_service("{port}");
    struct inherited it = {service, NULL, procref_cancel_new(NULL)};
    OK(procref_acquire(service, NULL, &it.handle, &error));
    in_child(use_inherited, &it);
    CHECK(status_has(service, "\"clients\":1"));
    /* The child has not cancelled its parent. */
    EXPECT(PROCREF_TIMEOUT, procref_handle_wait_dead(it.handle, 0, it.cancel, &error));
    procref_cancel_free(it.cancel);
    release_and_wait(service, it.handle);
    procref_service_free(service);
}

/* A service of DIR/procref.toml, with a dependency. */
static void project(void)
{
    char file[8192];
    snprintf(file, sizeof file, "%s/../procref.toml", run_path);
    procref_error *failure;
    CHECK(!procref_project_service(file, "no such service", &failure));
    CHECK(procref_error_status(failure) == PROCREF_INVALID && strstr(procref_error_message(failure), "no such service"));
    procref_error_free(failure);
    CHECK(!procref_project_service("/nonexistent/procref.toml", "web", NULL));
    CHECK(!procref_project_service(file, NULL, NULL));

    struct prepared prepared = {0};
    procref_service *service = procref_project_service(file, "web", &failure);
    CHECK(service && !failure);
    EXPECT(PROCREF_INVALID, procref_service_set(service, "linger", "1s", &error));
    OK(procref_service_on_ready(service, prepare, &prepared, free_prepared, &error));
    procref_handle *handle, *second;
    OK(procref_acquire(service, NULL, &handle, &error));
    CHECK(prepared.calls == 1 && prepared.port == procref_handle_port(handle));
    const char *url = procref_handle_get(handle, "WEB_URL"), *db = procref_handle_get(handle, "PROCREF_PORT_DB");
    CHECK(url && db && strstr(url, db));

    procref_cancel *cancel = procref_cancel_new(NULL);
    OK(procref_acquire(service, cancel, &second, &error));
    CHECK(strcmp(procref_handle_get(second, "WEB_URL"), url) == 0);
    OK(procref_release(second, &error));
    OK(procref_try_join(service, &second, &error));
    CHECK(procref_handle_port(second) == procref_handle_port(handle));
    CHECK(procref_handle_get(second, "PROCREF_PORT") && !procref_handle_get(second, "WEB_URL"));
    OK(procref_release(second, &error));
    procref_cancel_free(cancel);

    /* The key "project" names the same service. */
    char dir[8192];
    snprintf(dir, sizeof dir, "%s/..", run_path);
    procref_service *named = procref_service_new("web", NULL, NULL);
    set(named, "runtime-dir", run_path);
    set(named, "project", dir);
    OK(procref_try_join(named, &second, &error));
    CHECK(second && procref_handle_pid(second) == procref_handle_pid(handle));
    CHECK(strcmp(procref_handle_get(second, "PROCREF_DIR"), procref_handle_get(handle, "PROCREF_DIR")) == 0);
    OK(procref_release(second, &error));
    procref_service_free(named);

    release_and_wait(service, handle);
    procref_service_free(service);
    CHECK(prepared.calls == 1 && prepared.frees == 1);
}

static procref_cancel *interrupted;

static void on_interrupt(int signal)
{
    (void)signal;
    errno = 12345;
    procref_cancel_now(interrupted);
    if (errno != 12345)
        _exit(9);
}

/* A start that Ctrl-C cancels: the service is never ready. */
static void interrupt(void)
{
    procref_service *service = new_service("{port}");
    set(service, "ready", "log:never printed");
    interrupted = procref_cancel_new(NULL);
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("acquiring");
    procref_handle *handle;
    EXPECT(PROCREF_CANCELLED, procref_acquire(service, interrupted, &handle, &error));
    CHECK(!handle);
    puts("cancelled");
    OK(procref_wait_stopped(service, 30000, NULL, &error));
    CHECK(status_has(service, "\"state\":\"absent\""));
    procref_cancel_free(interrupted);
    procref_service_free(service);
}

static void *use_in_thread(void *service)
{
    for (int i = 0; i < 20; i++) {
        procref_handle *handle;
        OK(procref_acquire(service, NULL, &handle, &error));
        EXPECT(PROCREF_TIMEOUT, procref_handle_wait_dead(handle, 0, NULL, &error));
        OK(procref_release(handle, &error));
    }
    return NULL;
}

static void *wait_in_thread(void *data)
{
    struct inherited *it = data;
    EXPECT(PROCREF_CANCELLED, procref_handle_wait_dead(it->handle, -1, it->cancel, &error));
    return NULL;
}

/* Threads share a service, a handle and a cancel object. */
static void threads(void)
{
    procref_service *service = new_service("{port}");
    struct inherited it = {service, NULL, procref_cancel_new(NULL)};
    OK(procref_acquire(service, NULL, &it.handle, &error));
    pthread_t users[4], waiters[4];
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_create(&users[i], NULL, use_in_thread, service) == 0);
        CHECK(pthread_create(&waiters[i], NULL, wait_in_thread, &it) == 0);
    }
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(users[i], NULL) == 0);
    procref_cancel_now(it.cancel);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(waiters[i], NULL) == 0);
    procref_cancel_free(it.cancel);
    release_and_wait(service, it.handle);
    procref_service_free(service);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        {"hold", hold},     {"every_function", every_function}, {"mistakes", mistakes},
        {"forked", forked}, {"interrupt", interrupt},           {"threads", threads},
        {"project", project},
    };
    CHECK(argc == 4);
    snprintf(log_path, sizeof log_path, "%s/log", argv[2]);
    snprintf(run_path, sizeof run_path, "%s/run", argv[2]);
    program = argv[3];
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (strcmp(argv[1], tests[i].name) == 0) {
            tests[i].run();
            return 0;
        }
    }
    fprintf(stderr, "no test %s\n", argv[1]);
    return 2;
}
