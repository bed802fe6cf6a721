# Formats the stores of this machine whose listed disks are all blank. Anything else is left to the node, which
# says what is wrong with it.
set -eu
cluster="$1"
store() {
  id="$1"; shift
  for disk in "$@"; do
    content=$(azekura -o json disk show "$disk" | sed -n 's/.*"content": *"\([a-z]*\)".*/\1/p')
    if [ "$content" != blank ]; then
      echo "store $id: $disk is not blank ($content): nothing is formatted"
      return 0
    fi
  done
  azekura disk format --cluster "$cluster" --store "$id" "$@"
}
case "$NODE_NAME" in
{{- range .Values.storage.nodes }}
  {{ .name }})
    {{- range .stores }}
    {{- if .disks }}
    store {{ int .id }}{{ range .disks }} '{{ . }}'{{ end }}
    {{- end }}
    {{- end }}
    ;;
{{- end }}
esac
