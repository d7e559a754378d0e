# Installs Debian packages without letting them start a service: sh install.sh PACKAGE...
set -eu
export DEBIAN_FRONTEND=noninteractive

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi

# Asked before: an nginx that was there already stays as it is.
nginx_was_there=$(command -v nginx || true)

apt-get install --quiet --yes --no-remove --no-install-recommends "$@"

if [ -z "$nginx_was_there" ] && command -v nginx > /dev/null; then
    if command -v systemctl > /dev/null; then
        systemctl --quiet disable nginx
    else
        update-rc.d nginx disable
    fi
    echo "nginx was installed for the demo and the tests; it is not started, not now and not at boot"
fi
