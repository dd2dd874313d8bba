/* UDP round trips, one at a time, between two network namespaces.
 *
 *   latency serve PORT                          send back whatever comes
 *   latency ask ADDRESS PORT SIZE COUNT         COUNT messages of SIZE bytes; prints median and 99th percentile in ns
 *
 * In C because what is compared are microseconds: Python's own share of a round trip is as large as a tunnel's.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

enum { WARM_UP = 50, LARGEST = 65536, MOST_LOST = 20 };

static char buffer[LARGEST];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static long long now(void)
{
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec * 1000000000LL + moment.tv_nsec;
}

static int compare(const void *left, const void *right)
{
    long long a = *(const long long *)left, b = *(const long long *)right;
    return (a > b) - (a < b);
}

static void serve(int sock, const struct sockaddr_in *address)
{
    if (bind(sock, (const struct sockaddr *)address, sizeof *address))
        fail("bind");
    for (;;) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        ssize_t size = recvfrom(sock, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
        if (size < 0 || sendto(sock, buffer, size, 0, (struct sockaddr *)&from, length) != size)
            fail("serve");
    }
}

/* The first four bytes number the message, so that an answer that came too late is not taken for the next one's. */
static long long round_trip(int sock, size_t size, unsigned number)
{
    unsigned answer;
    long long start;
    memcpy(buffer, &number, sizeof number);
    start = now();
    if (send(sock, buffer, size, 0) != (ssize_t)size)
        return -1;
    do {
        if (recv(sock, buffer, sizeof buffer, 0) < 0)
            return -1;
        memcpy(&answer, buffer, sizeof answer);
    } while (answer != number);
    return now() - start;
}

static void ask(int sock, const struct sockaddr_in *address, size_t size, int count)
{
    struct timeval patience = {.tv_sec = 1};
    long long *taken = calloc(count, sizeof *taken);
    int got = -WARM_UP, lost = 0;
    unsigned number = 0;
    if (!taken || connect(sock, (const struct sockaddr *)address, sizeof *address) ||
        setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience))
        fail("ask");
    while (got < count) {
        long long nanoseconds = round_trip(sock, size, number++);
        if (nanoseconds < 0) {
            if (++lost > MOST_LOST)
                fail("no answers");
            continue;
        }
        if (got >= 0)
            taken[got] = nanoseconds;
        got++;
    }
    qsort(taken, count, sizeof *taken, compare);
    printf("{\"p50_ns\": %lld, \"p99_ns\": %lld, \"lost\": %d}\n", taken[count / 2], taken[count * 99 / 100], lost);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        fail("socket");
    if (argc == 3 && !strcmp(argv[1], "serve")) {
        address.sin_port = htons(atoi(argv[2]));
        serve(sock, &address);
    }
    if (argc == 6 && !strcmp(argv[1], "ask") && inet_pton(AF_INET, argv[2], &address.sin_addr) == 1) {
        size_t size = atoi(argv[4]);
        int count = atoi(argv[5]);
        if (size >= sizeof(unsigned) && size <= LARGEST && count > 0) {
            address.sin_port = htons(atoi(argv[3]));
            ask(sock, &address, size, count);
            return 0;
        }
    }
    fprintf(stderr, "usage: latency serve PORT | latency ask ADDRESS PORT SIZE COUNT\n");
    return 2;
}
