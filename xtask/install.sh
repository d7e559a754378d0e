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

# Programs whose packages would start them at boot. Asked before: one that was there already stays as it is.
missing=
for service in nginx prometheus prometheus-alertmanager vsftpd redis-server; do
    command -v $service > /dev/null || missing="$missing $service"
done

apt-get install --quiet --yes --no-remove --no-install-recommends "$@"

for service in $missing; do
    command -v $service > /dev/null || continue
    if command -v systemctl > /dev/null; then
        systemctl --quiet disable $service
    else
        update-rc.d $service disable
    fi
    echo "$service was installed for the demo and the tests; it is not started, not now and not at boot"
done
