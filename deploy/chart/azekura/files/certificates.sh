# Gives a storage node the authority of the Secret, and its first certificate, before it starts.
#
#   sh certificates.sh AUTHORITY FOLDER HOST_FOLDER
#
# AUTHORITY: the authority's file, of the Secret. FOLDER: the node's data; HOST_FOLDER: what the machine calls it. The environment
# has NODE_NAME, and ADOPT=true when a plain node is to have certificates from now on.
#
# Files are replaced by renaming, never written to: they are as unwritable as those of the Secret they were copied from, and root
# without CAP_DAC_OVERRIDE is refused as anybody is. No authority is thrown away: this may be the last copy.
set -eu
umask 077
given=$1
folder=$2
own=$folder/tls
there=$3/tls

stop() {
  echo "$1" >&2
  exit 1
}

replace() {
  rm -f "$2.new"
  cp "$1" "$2.new"
  mv -f "$2.new" "$2"
}

# What the credentials in a folder say of themselves; nothing when there are none.
said() {
  azekura -o json cluster credentials show "$1" 2> /dev/null | sed -n "s/.*\"$2\": *\"\{0,1\}\([^\"]*[^\",]\).*/\1/p"
}

# Whether the authority of the Secret is that of this node's certificate, or one that that has signed for: its cross certificate
# names the signer.
succeeds() {
  signer=$(said "$own/node" issuer)
  if [ -z "$signer" ]; then return 0; fi
  rm -rf "$own/probe"
  azekura cluster credentials create "$NODE_NAME" --role node --authority "$given" --out "$own/probe" > /dev/null
  next=$(said "$own/probe" issuer)
  rm -rf "$own/probe"
  [ "$next" = "$signer" ] || grep -v -e - "$given" | base64 -d | grep -aqF -e "${signer#CN=}"
}

if [ -e "$folder/state" ] && [ ! -e "$own" ] && [ "${ADOPT:-}" != true ]; then
  stop "the node on this machine is plain, and tls.enabled is true: plain and encrypted nodes, and volumes mounted by either, do not \
reach each other. Set tls.enabled=false, or follow \"From plain to encrypted\" in docs/operating/kubernetes.md, which sets tls.adopt=true"
fi
mkdir -p "$own"

# The authority of the Secret counts when that has changed; else the one here, which a rotation may have replaced.
if ! cmp -s "$given" "$own/authority.given"; then
  if ! succeeds; then
    stop "the authority in the Secret is not that of this cluster, nor one that it has signed for: with it this node would be cut off \
from the others. Put the file $there/authority.pem of this machine, or of the one where the authority was rotated last, into the \
Secret (docs/operating/kubernetes.md, \"Rotate the authority\"). If the cluster is to have the authority of the Secret nevertheless, \
delete $there/node on every machine"
  fi
  if [ -e "$own/authority.pem" ] && ! cmp -s "$given" "$own/authority.pem"; then
    replace "$own/authority.pem" "$own/authority.before-$(date +%s)"
  fi
  replace "$given" "$own/authority.pem"
  replace "$given" "$own/authority.given"
fi

# The node renews its certificate itself; here it gets the first one, and another after one that has ended.
until_ms=$(said "$own/node" until_ms)
if [ "${until_ms:-0}" -le "$(date +%s)000" ]; then
  azekura cluster credentials create "$NODE_NAME" --role node --authority "$own/authority.pem" --out "$own/node"
fi
