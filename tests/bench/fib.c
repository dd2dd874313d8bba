/* The peer of `./dev bench dataplane`: puts /26 routes into this namespace's main table as fast as C can.
 *
 *     fib COUNT PROTOCOL METRIC via GATEWAY IFINDEX
 *     fib COUNT PROTOCOL METRIC nhid ID
 *
 * 1000 messages per send, an acknowledgement of the last of each only, 8 MiB buffers, CREATE|EXCL as for a table that
 * is new, in the order of routed_felix.scatter: what the Python side does. Prints seconds, from the first message built
 * to the last acknowledgement, and how many messages the kernel refused.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PER_SEND 1000
#define FIRST 0x14000000u /* 20.0.0.0 */

struct message {
    struct nlmsghdr header;
    struct rtmsg route;
    char attributes[64];
};

static char buffer[PER_SEND * sizeof(struct message)];
static char answers[1 << 17];

static void attribute(struct nlmsghdr *header, int kind, const void *value, int size)
{
    struct rtattr *at = (struct rtattr *)((char *)header + NLMSG_ALIGN(header->nlmsg_len));
    at->rta_type = (unsigned short)kind;
    at->rta_len = (unsigned short)RTA_LENGTH(size);
    memcpy(RTA_DATA(at), value, (size_t)size);
    header->nlmsg_len = NLMSG_ALIGN(header->nlmsg_len) + RTA_ALIGN(at->rta_len);
}

/* Reads until message `last` is answered; how many were refused. */
static int settle(int netlink, unsigned last)
{
    int refused = 0;
    for (;;) {
        ssize_t got = recv(netlink, answers, sizeof answers, 0);
        if (got < 0) {
            perror("fib: recv");
            exit(1);
        }
        for (struct nlmsghdr *each = (struct nlmsghdr *)answers; NLMSG_OK(each, got); each = NLMSG_NEXT(each, got)) {
            if (each->nlmsg_type != NLMSG_ERROR)
                continue;
            refused += ((struct nlmsgerr *)NLMSG_DATA(each))->error != 0;
            if (each->nlmsg_seq == last)
                return refused;
        }
    }
}

/* The order of the prefixes: every 2^bits-th, then those between, and so on. */
static unsigned *scattered(unsigned count)
{
    unsigned *order = malloc(count * sizeof *order + 1), bits = 0, used = 0;
    if (order == NULL) {
        perror("fib: malloc");
        exit(1);
    }
    while ((count / 512) >> bits)
        bits++;
    for (unsigned round = 0; round < 1u << bits; round++) {
        unsigned first = 0;
        for (unsigned bit = 0; bit < bits; bit++)
            first |= ((round >> bit) & 1) << (bits - 1 - bit);
        for (unsigned number = first; number < count; number += 1u << bits)
            order[used++] = number;
    }
    return order;
}

int main(int argc, char **argv)
{
    if (argc < 6 || (strcmp(argv[4], "via") == 0) != (argc == 7)) {
        fprintf(stderr, "usage: fib COUNT PROTOCOL METRIC (via GATEWAY IFINDEX | nhid ID)\n");
        return 2;
    }
    unsigned count = (unsigned)atoi(argv[1]), metric = (unsigned)atoi(argv[3]), id = (unsigned)atoi(argv[5]);
    int by_id = strcmp(argv[4], "nhid") == 0, device = by_id ? 0 : atoi(argv[6]), size = 8 << 20, one = 1, refused = 0;
    struct in_addr gateway = {0};
    if (!by_id)
        inet_pton(AF_INET, argv[5], &gateway);
    int netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    setsockopt(netlink, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    setsockopt(netlink, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(netlink, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);

    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    unsigned *order = scattered(count);
    for (unsigned start = 0; start < count; start += PER_SEND) {
        unsigned end = start + PER_SEND < count ? start + PER_SEND : count, used = 0;
        for (unsigned place = start; place < end; place++) {
            struct nlmsghdr *header = (struct nlmsghdr *)(buffer + used);
            struct rtmsg *route = NLMSG_DATA(header);
            in_addr_t destination = htonl(FIRST + (order[place] << 6));
            memset(header, 0, NLMSG_LENGTH(sizeof *route));
            header->nlmsg_len = NLMSG_LENGTH(sizeof *route);
            header->nlmsg_type = RTM_NEWROUTE;
            header->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL;
            if (place == end - 1)
                header->nlmsg_flags |= NLM_F_ACK;
            header->nlmsg_seq = place + 1;
            route->rtm_family = AF_INET;
            route->rtm_dst_len = 26;
            route->rtm_table = RT_TABLE_MAIN;
            route->rtm_protocol = (unsigned char)atoi(argv[2]);
            route->rtm_scope = RT_SCOPE_UNIVERSE;
            route->rtm_type = RTN_UNICAST;
            attribute(header, RTA_DST, &destination, 4);
            attribute(header, RTA_PRIORITY, &metric, 4);
            if (by_id) {
                attribute(header, RTA_NH_ID, &id, 4);
            } else {
                attribute(header, RTA_GATEWAY, &gateway, 4);
                attribute(header, RTA_OIF, &device, 4);
            }
            used += NLMSG_ALIGN(header->nlmsg_len);
        }
        if (send(netlink, buffer, used, 0) != (ssize_t)used) {
            perror("fib: send");
            return 1;
        }
        refused += settle(netlink, end);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%.6f %d\n", (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9, refused);
    return 0;
}
