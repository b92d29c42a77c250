"""What may be wrong with the network between nodes, the Hub, and the sandbox."""

from chatling.hardware.check import Check

NETWORK_CHECKS: tuple[Check, ...] = (
    # ---- several nodes ----
    Check(
        "fast network",
        "note",
        "links of ConnectX ports",
        "fast_ports fast_links",
        lambda ports, links: not links,
        "No port of the fast network card has a link.",
        "For one machine that is fine; for two, put the cable in.",
    ),
    Check(
        "halves of the fast network",
        "warning",
        "ports of one socket, their links and addresses",
        "half_links",
        bool,
        "{half_links}: the socket's other half has no link or no address: half speed.",
        "Give both ports of the socket an address.",
    ),
    Check(
        "packets of the fast network",
        "warning",
        "the MTU of linked ConnectX ports",
        "small_packets",
        bool,
        "{small_packets}: packets of less than 9,000 bytes.",
        "sudo ip link set dev PORT mtu 9000, on both ends",
    ),
    Check(
        "locked memory",
        "warning",
        "RLIMIT_MEMLOCK where there is a fast network card",
        "fast_links locked_memory",
        lambda links, locked: links and locked < 1,
        "A process may lock {locked_memory:.3f} GB of memory; the fast network needs it unlimited.",
        "ulimit -l unlimited, or docker's --ulimit memlock=-1",
    ),
    # ---- the Hub ----
    Check(
        "Hub",
        "warning",
        "the first page of the Hub, or of the mirror that HF_ENDPOINT names, within 3 s",
        "endpoint_error",
        bool,
        "{endpoint} cannot be reached: {endpoint_error}. Recipes with real data cannot fetch them.",
        "Check the connection, or name a mirror in HF_ENDPOINT; `chatling run pocket` needs none.",
    ),
    Check(
        "Hub switched off",
        "note",
        "HF_HUB_OFFLINE",
        "offline",
        bool,
        "HF_HUB_OFFLINE is set: nothing is fetched.",
        "Unset it to fetch data.",
    ),
    Check(
        "token",
        "warning",
        "the Hub's answer to it",
        "token",
        lambda token: token == "refused",
        "The Hub refuses the token.",
        "Make a new one at the Hub and put it into HF_TOKEN, or unset HF_TOKEN.",
    ),
    Check(
        "clock",
        "warning",
        "the Hub's clock",
        "clock_skew",
        lambda skew: abs(skew) > 60,
        "The clock is {clock_skew:.0f} s off the Hub's.",
        "sudo timedatectl set-ntp true",
    ),
    # ---- running what a model wrote ----
    Check(
        "sandbox",
        "warning",
        "a program run in it",
        "sandbox_error",
        bool,
        "{sandbox_error}",
        "Until then HumanEval is refused, rather than read as 0 %.",
    ),
)
