import { gunzipSync } from "node:zlib";

/**
 * The first 64 KiB of a physical volume that lvm2 2.03.16 made: `pvcreate` on 128 MiB, `vgcreate vg-debian` with a second one of
 * 64 MiB; `lvcreate` of root (64 MiB), swap_1 (8 MiB) and striped (16 MiB over both); root extended by 4 extents; `lvcreate` of home (5
 * extents); swap_1 removed and root extended by 3 extents into its place. So on this volume lie, in extents of 4 MiB from 1 MiB on:
 * root at 0-15, 20-23, 16-17 and 29, home at 24-28, and every second 64 KiB of striped at 18-19.
 */
export function lvm2PhysicalVolume(): Buffer {
  return gunzipSync(Buffer.from(CONTENT.join(""), "base64"));
}

const CONTENT = [
  "H4sIAAAAAAACA+3Z7W7aVhjA8XafNn/ZpO0CjqgmtVtPio0xpNKmQUNSUkjShIalVYcMGOIGsGOMQ1r1AnYju4pJu5ddwaTdwI4NJG1D39cqCf",
  "+fhLAN2MePj8/z+HDlChZZpVAsVTY3Slen6/9+98e3It6+WzVEOq0XVoLV1eK9QrpiNo8KhfHQ3jQzlXYrcuyN1nrZVl/9cvLLb958oNnH/3w9",
  "9+Mv1OsqlwMAAAAAPpnf/rr3p0ge9saPsoXvg/TGDz9fnfe8Zk7eqtOnvd/XrL+J3sUXdWXbabr2QDzT3Lb4SaQO9gJ9/UDuboX78unYOpbraz",
  "tN2Qz1miyu1tdk0YsGzScpbegcDjz1A13reEHfDuPf9qK+oT4J7XA0VOuPUtulnfLDUqFYKaVuCrVWWInf69vlWin1WOv07G7yvceaMw6dQdgY",
  "uk8dtSGvLxta3x43epFaSyeL/nTRCe22HdqNlue7zjDZpvn7x0O3Zfcakdcb9dXWZ2pblD45p8kshoynMWQ8jyHjiQwZz2TIeCpDTuYyUlrbid",
  "xW3IDULbV4q+d5fjqlvXhChUpl806hlpzRSyegvj9rvWEZumlqvtNQPwziwBhpMx+vt7zRIF7P6NrzuIX6SQt3Rpuj1bIsFNtV2SlXu/Kedbwi",
  "W5vLFRmWmjm5PP71STma20L9/VuoZ/R0znhTC/WsaqFqo3pdE2vOwAns0GmL5vFksIicYOh6A2EspTNLunXduCGuG2nDkOms1PM3bou6+vKGFw",
  "kjKwzjdta8beTUMQxL01reIL7UcaNSNXXZxeqk++wml06sBd7IT2mzA8T9S7V82ApcP5xsSNUDN3REJ/D6Iuq2Ake1TEg58Hpe68AddNVyO3DV",
  "Dnqe3VbNGIjTTn56WU8X9SUVwGQ3av+NfW+YdOWon/rqmqi4g9FYRH1hLen5JdOUnZaMctayuKaLneqW2NoulapbtcbK3kahWr4jfkmLcd5qWO",
  "bpDkO3n4Q8t5y1zJxh5dRuXx+di3f/G9z/l/j+73ndVwMbeF540u5yZaVfDOSeediXnSh4KDtOfkNWO8370rjf2pb14d7Rgf9Kn3ixF6iF3fJO",
  "+UxrX3//zL1XVXfs9uMedHIC2mxTHOTkNBuTTpZ0mWl/O/m2uvXCYz8J7DBUY43TjtscL7y0x2RL0kItpTqYan1ae5xE6vl5Hyp70bsMlfJYSD",
  "UYyIfqVVevgUgut6wIy+zPHUgXefSk/lNjGeM/4z/jvzY8sv3G6QWt1YPQ76lwRLbcGXm2LHeqT6VXaocyU3dtmbd8d6147gNjfGhcVEQveWKc",
  "XnCVGvMvZMYLlg4/fvw3Gf8Z/xn/Gf9fM/5PP2yfREbv+HedgvR7+XV59CB9KPP1sS+NB5mm3K3sL8v6yl412D73kTHfHhljtmF22xn5+bHK34",
  "wX9UV4nJz1BukKQ8iyeqw8iFOobl3cHLrYz39Z8j/5//zlf+Oz5v/poYyzh1J7fv/EMf9QBrUGtcZi1hpJPNpvqTV64kfztIi4lYxTzFN/6vxv",
  "kf/J/+R/8j/5/4Lmf23fU+cwC9kdt3PYfSD1WjuQW1Hvgazv1OrS8TN5ebhdq0lvzcy7d899yLIffJeZl30KJrncqlrKMuPC//8fXf/lqP+o/6",
  "j/Pm/9R5lDmbM4ZU7g9L3o7WXO6dTP5PmIouZz5P88+Z/8f/7yv3lp8//0WJmzxzL+9ymV6bHMOccyzsTwg89rmbqGumYB65p3/Vcrw79aAAAA",
  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAWEz/AW4PtCMAAAEA",
];
