/* routed's CNI plugin: carries a call to the agent and its answer back.
 *
 * The same program as routed_cni/shim.py, for machines with a C compiler at set-up: starting Python is most of what
 * that one costs. It decides nothing. tests/unit/cni/test_shim.py is the contract of both; change them together.
 *
 * Build: cc -std=c11 -Os -static -Wall -Wextra -Werror -o cni/routed_cni/prebuilt/routed-cni cni/shim/routed-cni.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* An answer takes milliseconds; half of the two minutes that runtimes give a plugin. */
#ifndef ANSWER_SECONDS
#define ANSWER_SECONDS 60
#endif
#define TEXT_(number) #number
#define TEXT(number) TEXT_(number)
#define NEWEST "\"1.1.0\""
#define VERSIONS "\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\"," NEWEST

enum { RETRY_MS = 20, LENGTH_BYTES = 4, MAX_REQUEST = 1 << 20, MAX_ANSWER = 1 + (1 << 20) };
enum code { IO_FAILURE = 5, DECODE_FAILURE = 6, TRY_AGAIN_LATER = 11, BUG = 100 };

/* What stands between the two marks is written by routed_cni.install, which knows this layout. Neither static nor
 * const, so that the compiler cannot take the values for the program's. */
struct {
    char mark[24];
    char socket[sizeof ((struct sockaddr_un *) 0)->sun_path];
    uint32_t connect_ms;
    char end[19];
} baked = {"# routed-cni: baked in\n", "/run/routed/cni.sock", 10000, "# routed-cni: end\n"};
_Static_assert(offsetof(__typeof__(baked), end) == 24 + 108 + 4, "routed_cni.install packs x108sI after the first mark");

/* The request behind its length and, once that is sent, the answer; both with room for the byte that is too many. */
static unsigned char buffer[LENGTH_BYTES + MAX_ANSWER + 1];

static bool print(const void *data, size_t size)
{
    for (const char *at = data; size > 0;) {
        ssize_t written = write(STDOUT_FILENO, at, size);
        if (written >= 0) {
            at += written;
            size -= (size_t) written;
        } else if (errno == EAGAIN) {
            poll(&(struct pollfd){.fd = STDOUT_FILENO, .events = POLLOUT}, 1, RETRY_MS);
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

/* Print a CNI error, its message made of the strings up to NULL, and end. */
static _Noreturn void fail(enum code code, ...)
{
    static char text[2048]; /* the longest has a path of 107 bytes, each of them escaped, and two short sentences */
    char *at = text + snprintf(text, sizeof text, "{\"cniVersion\":\"1.0.0\",\"code\":%d,\"msg\":\"", (int) code);
    char *const limit = text + sizeof text - sizeof "\\u0000\"}";
    va_list parts;
    va_start(parts, code);
    for (const char *part; (part = va_arg(parts, const char *)) != NULL;)
        for (; *part != '\0' && at < limit; part++) {
            if ((unsigned char) *part < ' ') {
                at += sprintf(at, "\\u%04x", (unsigned) *part);
                continue;
            }
            if (*part == '"' || *part == '\\')
                *at++ = '\\';
            *at++ = *part;
        }
    va_end(parts);
    *at++ = '"';
    *at++ = '}';
    print(text, (size_t) (at - text));
    _exit(1);
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* As the Python form's mapping has it: of a name that is there twice, the first value. */
static bool is_repeated(char *const *variable, size_t name)
{
    for (char *const *earlier = environ; earlier < variable; earlier++)
        if (strncmp(*earlier, *variable, name + 1) == 0)
            return true;
    return false;
}

/* The call as the agent reads it: CNI_* variables, two NULs, stdin. Its size, without the length in front of it. */
static size_t request(void)
{
    static const char too_large[] = "the network configuration on stdin is larger than 1 MiB";
    unsigned char *const payload = buffer + LENGTH_BYTES;
    size_t size = 0;
    for (char *const *variable = environ; *variable != NULL; variable++) {
        size_t name = strcspn(*variable, "="), length = strlen(*variable);
        if (strncmp(*variable, "CNI_", 4) != 0 || name == length || is_repeated(variable, name))
            continue;
        if (size + length > MAX_REQUEST) /* even with nothing after it, for the NULs come on top */
            fail(DECODE_FAILURE, too_large, NULL);
        memcpy(payload + size, *variable, length + 1);
        size += length + 1;
    }
    if (size == 0)
        payload[size++] = '\0';
    payload[size++] = '\0';
    while (size <= MAX_REQUEST) {
        ssize_t got = read(STDIN_FILENO, payload + size, MAX_REQUEST + 1 - size);
        if (got > 0)
            size += (size_t) got;
        else if (got == 0)
            return size;
        else if (errno == EAGAIN)
            poll(&(struct pollfd){.fd = STDIN_FILENO, .events = POLLIN}, 1, RETRY_MS);
        else if (errno != EINTR)
            fail(IO_FAILURE, "cannot read the network configuration on stdin: ", strerror(errno), NULL);
    }
    fail(DECODE_FAILURE, too_large, NULL);
}

/* A connection to the agent, for which it waits a little if it is away. */
static int connection(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, baked.socket, sizeof address.sun_path);
    for (int64_t deadline = now_ms() + baked.connect_ms;; poll(NULL, 0, RETRY_MS)) {
        int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (client >= 0 && connect(client, (struct sockaddr *) &address, sizeof address) == 0)
            return client;
        const int error = errno;
        /* no socket, a stale one, or (EAGAIN) more calls waiting than its queue holds */
        if (client < 0 || (error != ENOENT && error != ECONNREFUSED && error != EAGAIN && error != EINTR))
            fail(TRY_AGAIN_LATER, "routed agent cannot be reached at ", baked.socket, ": ", strerror(error), NULL);
        if (now_ms() >= deadline)
            fail(TRY_AGAIN_LATER, "routed agent is not answering at ", baked.socket, ": ", strerror(error),
                 "; is it running on this node?", NULL);
        close(client);
    }
}

/* Wait until `client` can be read or written; true if it was only that which kept the last call from succeeding. */
static bool wait_for(int client, short events, int64_t deadline)
{
    if (errno == EINTR)
        return true;
    if (errno != EAGAIN)
        return false;
    int64_t left = deadline - now_ms();
    if (left <= 0)
        fail(TRY_AGAIN_LATER, "routed agent did not answer within " TEXT(ANSWER_SECONDS) " s", NULL);
    poll(&(struct pollfd){.fd = client, .events = events}, 1, (int) left);
    return true;
}

/* Send the request of `size` bytes in the buffer, put the answer there instead; its size. */
static size_t call(int client, size_t size)
{
    const int64_t deadline = now_ms() + ANSWER_SECONDS * 1000;
    int lost = 0;
    for (int i = 0; i < LENGTH_BYTES; i++)
        buffer[i] = (unsigned char) (size >> (8 * (LENGTH_BYTES - 1 - i)));
    for (size_t sent = 0; sent < LENGTH_BYTES + size && lost == 0;) {
        ssize_t done = send(client, buffer + sent, LENGTH_BYTES + size - sent, 0);
        if (done >= 0)
            sent += (size_t) done;
        else if (!wait_for(client, POLLOUT, deadline))
            lost = errno;
    }
    /* An agent that refuses a request unread resets the connection, behind its answer. */
    for (size = 0; size <= MAX_ANSWER;) {
        ssize_t got = recv(client, buffer + size, MAX_ANSWER + 1 - size, 0);
        if (got > 0) {
            size += (size_t) got;
        } else if (got == 0 || !wait_for(client, POLLIN, deadline)) {
            if (got < 0 && lost == 0)
                lost = errno;
            if (size == 0 && lost != 0)
                fail(TRY_AGAIN_LATER, "routed agent closed the connection: ", strerror(lost), NULL);
            if (size == 0)
                fail(TRY_AGAIN_LATER, "routed agent closed the connection without an answer; it may be restarting",
                     NULL);
            return size;
        }
    }
    fail(BUG, "the answer of routed agent is larger than 1 MiB", NULL);
}

/* Answer VERSION to the request of `size` bytes in the buffer: with the version that its stdin has, if that is a
 * supported one, else with the newest. Behind the request the buffer has a NUL. */
static bool tell_version(size_t size)
{
    static const char key[] = "\"cniVersion\"", versions[] = VERSIONS;
    const char *const request = (const char *) buffer + LENGTH_BYTES;
    const char *const input = memmem(request, size, "\0", 2), *version = NEWEST;
    const char *asked = memmem(input, size - (size_t) (input - request), key, sizeof key - 1);
    if (asked != NULL) {
        asked += sizeof key - 1;
        asked += strspn(asked, " \t\r\n:");
        for (const char *known = versions; known < versions + sizeof versions; known += sizeof NEWEST)
            if (strncmp(asked, known, sizeof NEWEST - 1) == 0)
                version = known;
    }
    char text[128];
    const int length = snprintf(text, sizeof text, "{\"cniVersion\":%.*s,\"supportedVersions\":[%s]}",
                                (int) sizeof NEWEST - 1, version, versions);
    return print(text, (size_t) length);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    size_t size = request();
    const char *command = getenv("CNI_COMMAND");
    if (command != NULL && strcmp(command, "VERSION") == 0) /* without the agent, as runtimes ask before there is one */
        return tell_version(size) ? 0 : 1;
    size = call(connection(), size);
    return print(buffer + 1, size - 1) ? buffer[0] : 1;
}
