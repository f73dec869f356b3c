package app.lingualinked.device

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.app.Service
import android.content.Context
import android.content.Intent
import android.content.pm.ServiceInfo
import android.os.Build
import android.os.IBinder
import androidx.core.content.ContextCompat

private const val CHANNEL = "device"
private const val NOTIFICATION = 1
private const val TITLE = "title"
private const val TEXT = "text"

/**
 * Keeps the app alive while it computes behind other apps. It does nothing itself.
 *
 * Its type is `connectedDevice`, which may run for as long as it likes; `dataSync` ends after 6 hours a day.
 */
class DeviceService : Service() {
    override fun onBind(intent: Intent?): IBinder? = null

    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        val notification = notification(intent?.getStringExtra(TITLE), intent?.getStringExtra(TEXT))
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
            startForeground(
                NOTIFICATION, notification, ServiceInfo.FOREGROUND_SERVICE_TYPE_CONNECTED_DEVICE
            )
        } else {
            startForeground(NOTIFICATION, notification)
        }
        // Without the app there is nothing to compute.
        return START_NOT_STICKY
    }

    /** The app was swiped away. A window opened again over a process that lives on would stay blank. */
    override fun onTaskRemoved(rootIntent: Intent?) {
        stopSelf()
        super.onTaskRemoved(rootIntent)
    }

    private fun notification(title: String?, text: String?): Notification {
        val channel = NotificationChannel(
            CHANNEL, getString(R.string.device_channel), NotificationManager.IMPORTANCE_LOW
        )
        getSystemService(NotificationManager::class.java).createNotificationChannel(channel)
        val open = packageManager.getLaunchIntentForPackage(packageName)?.let {
            PendingIntent.getActivity(this, 0, it, PendingIntent.FLAG_IMMUTABLE)
        }

        return Notification.Builder(this, CHANNEL)
            .setContentTitle(title)
            .setContentText(text)
            .setSmallIcon(applicationInfo.icon)
            .setContentIntent(open)
            .setOngoing(true)
            .build()
    }

    companion object {
        /** Starts it, or changes what it says. */
        fun start(context: Context, title: String, text: String) {
            val start = Intent(context, DeviceService::class.java)
            start.putExtra(TITLE, title)
            start.putExtra(TEXT, text)
            ContextCompat.startForegroundService(context, start)
        }

        fun stop(context: Context) {
            context.stopService(Intent(context, DeviceService::class.java))
        }
    }
}
